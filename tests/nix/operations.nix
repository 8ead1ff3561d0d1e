# A plain Debian machine with a release unpacked in /etc/tests/release, docs/debian.md as a script,
# and of docs/operations.md what only a machine with systemd can run: the shell blocks, and the
# drop-in that lets a role renew itself. The stream program and the body are the demo build's, which
# does not update itself.
{ release, demo }:
let
  # A document's blocks of one language, in order.
  blocks =
    language: text:
    builtins.concatStringsSep "\n" (
      map (piece: builtins.head (builtins.split "\n```" piece)) (
        builtins.filter builtins.isString (builtins.tail (builtins.split "\n```${language}\n" text))
      )
    );
  operations = builtins.readFile ../../docs/operations.md;
in
{
  machine =
    { pkgs, ... }:
    {
      environment.etc = {
        "tests/signalling.py".source = ../../vm-tests/tools/signalling.py;
        "tests/debian.sh".text = blocks "sh" (builtins.readFile ../../docs/debian.md);
        "tests/operations.sh".text = blocks "sh" operations;
        "tests/updates.conf".text = blocks "ini" operations;
        "tests/demo".source = "${demo}/bin";
        "tests/release".source = pkgs.runCommand "release" { } ''
          mkdir $out
          cp ${release}/bin/hydraneckwebrtc $out/
          cp -r ${../../systemd} $out/systemd
        '';
      };
    };
}
