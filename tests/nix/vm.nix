# Every VM test of ../../vm-tests as a directory of machine overlays, one directory a machine.
let
  lib = import ./stand-in/lib.nix;
  pkgs = import ./stand-in/pkgs.nix { inherit lib; };
  overlay = import ./overlay.nix { inherit lib pkgs; };
  directory = ../../vm-tests;
  names = map (lib.removeSuffix ".py") (
    lib.filter (lib.hasSuffix ".py") (lib.attrNames (builtins.readDir directory))
  );
  release = pkgs.callPackage ../../nixos-module/package.nix { };
  package = pkgs.callPackage ../../nixos-module/package.nix { withDemo = true; };
  module = {
    imports = [ ../../nixos-module ];
    services.hydraneckwebrtc.package = lib.mkDefault package;
    # Debian's coturn is older than the module wants; the tests show what it refuses.
    services.hydraneckwebrtc.turn.acceptOldCoturn = true;
  };
  plan =
    name: nodes:
    let
      machine =
        node: config:
        overlay (
          import ./stand-in/nixos { inherit lib pkgs; } {
            modules = [
              config
              { networking.hostName = lib.mkDefault node; }
            ];
          }
        );
    in
    pkgs.runCommand "vm-test-${name}" { } ''
      mkdir $out
      ${lib.concatStrings (
        lib.mapAttrsToList (node: config: "ln -s ${machine node config} $out/${node}\n") nodes
      )}
    '';
in
lib.genAttrs names (name: plan name (import (directory + "/${name}.nix") { inherit module; }).nodes)
// {
  debian = plan "debian" (import ./debian.nix { inherit package; });
  operations = plan "operations" (
    import ./operations.nix {
      inherit release;
      demo = package;
    }
  );
}
