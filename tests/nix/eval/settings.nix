# Configurations that evaluate and that the program itself must judge when the system is built:
# the unit of each, and the words that a refusal must say.
let
  inherit (import ./machine.nix) lib machine pkgs;
  start =
    streamProgram: settings:
    (machine {
      services.hydraneckwebrtc = {
        package = lib.mkForce (pkgs.callPackage ../../../nixos-module/package.nix { });
        worker = {
          enable = true;
          controllerUrl = "https://neck.example.com";
          controllerTokenFile = "/run/keys/neck";
          inherit settings streamProgram;
        };
      };
    }).checked.systemd.services.hydraneckwebrtc.serviceConfig.ExecStart;
  case = says: settings: {
    inherit says;
    unit = pkgs.writeText "unit" (start "/opt/moonlight-web-stream/web-server" settings);
  };
  program =
    says: parts:
    let
      files = map (part: "touch $out/lib/${part}\n") parts;
      # As packages are made that keep a program apart from the path of commands.
      package = pkgs.runCommand "moonlight-web-stream" { } ''
        mkdir -p $out/bin $out/lib
        ${lib.concatStrings files}
        ln -s ../lib/web-server $out/bin/web-server
      '';
    in
    {
      inherit says;
      unit = pkgs.writeText "unit" (start package { });
    };
in
{
  a_good_one = case [ ] { sessions.disconnect_grace = "45s"; };
  a_whole_stream_program =
    program
      [ ]
      [
        "web-server"
        "streamer"
        "static"
      ];
  a_stream_program_without_its_pages =
    program
      [
        "worker.streamProgram"
        "no static"
        "docs/stream-program.md"
      ]
      [
        "web-server"
        "streamer"
      ];
  an_unknown_key = case [ "sesions" "sessions" ] { sesions.max = 3; };
  a_wrong_duration = case [ "sessions.disconnect_grace" "45 apples" ] {
    sessions.disconnect_grace = "45 apples";
  };
  a_wrong_network = case [ "bodies.allowed_networks" ] {
    bodies.allowed_networks = [ "10.0.0.0/99" ];
  };
}
