# A plain Debian machine with a release unpacked in /etc/tests/release, and docs/debian.md as a
# script.
{ package }:
let
  # The document's sh blocks, in order.
  blocks =
    text:
    builtins.concatStringsSep "\n" (
      map (piece: builtins.head (builtins.split "\n```" piece)) (
        builtins.filter builtins.isString (builtins.tail (builtins.split "\n```sh\n" text))
      )
    );
in
{
  machine =
    { pkgs, ... }:
    {
      environment.etc = {
        "tests/tools".source = ../../vm-tests/tools;
        "tests/debian.sh".text = blocks (builtins.readFile ../../docs/debian.md);
        "tests/release".source = pkgs.runCommand "release" { } ''
          mkdir $out
          cp ${package}/bin/hydraneckwebrtc $out/
          cp -r ${../../systemd} $out/systemd
          cp -r ${../../scripts} $out/scripts
        '';
      };
    };
}
