# Configurations that evaluate and that the program itself must judge when the system is built:
# the unit of each, and the words that a refusal must say.
let
  inherit (import ./machine.nix) lib machine pkgs;
  start =
    settings:
    (machine {
      services.hydraneckwebrtc = {
        package = lib.mkForce (pkgs.callPackage ../../../nixos-module/package.nix { });
        worker = {
          enable = true;
          controllerUrl = "https://neck.example.com";
          controllerTokenFile = "/run/keys/neck";
          inherit settings;
        };
      };
    }).checked.systemd.services.hydraneckwebrtc.serviceConfig.ExecStart;
  case = says: settings: {
    inherit says;
    unit = pkgs.writeText "unit" (start settings);
  };
in
{
  a_good_one = case [ ] { sessions.disconnect_grace = "45s"; };
  an_unknown_key = case [ "sesions" "sessions" ] { sesions.max = 3; };
  a_wrong_duration = case [ "sessions.disconnect_grace" "45 apples" ] {
    sessions.disconnect_grace = "45 apples";
  };
  a_wrong_network = case [ "bodies.allowed_networks" ] {
    bodies.allowed_networks = [ "10.0.0.0/99" ];
  };
}
