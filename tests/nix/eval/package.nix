# What the package's build has beside its source when it runs the tests.
let
  lib = import ../stand-in/lib.nix;
  package =
    (import ../stand-in/pkgs.nix { inherit lib; }).callPackage ../../../nixos-module/package.nix
      { };
in
{
  inherit (package) checkFlags checkInputs;
}
