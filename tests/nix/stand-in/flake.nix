# A stand-in for nixpkgs, given to the project's flake by --override-input where no nixpkgs can be
# had: enough to evaluate the flake, its module and its VM tests. Own code, not nixpkgs'.
{
  outputs =
    _:
    let
      lib = import ./lib.nix;
      pkgsFor = system: import ./pkgs.nix { inherit lib system; };
    in
    {
      lib = lib // {
        nixosSystem =
          {
            system ? "x86_64-linux",
            pkgs ? pkgsFor system,
            modules,
            specialArgs ? { },
          }:
          import ./nixos { inherit lib pkgs; } { inherit modules specialArgs; };
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] pkgsFor;
    };
}
