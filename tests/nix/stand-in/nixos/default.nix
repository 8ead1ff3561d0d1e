# The part of NixOS that the project's module talks to. Units, assertions, firewall, coturn,
# WireGuard and ACME have their real option names and types; what else is set is kept and can be
# read, but means nothing.
{ lib, pkgs }:
{
  modules,
  specialArgs ? { },
}:
let
  result = lib.evalModules {
    modules = [
      ./acme.nix
      ./base.nix
      ./coturn.nix
      ./firewall.nix
      ./wireguard.nix
    ]
    ++ modules;
    specialArgs = {
      inherit pkgs;
    }
    // specialArgs;
  };
  units = import ./units.nix { inherit lib pkgs; } result.config.systemd.services;
  failed = map (a: a.message) (lib.filter (a: !a.assertion) result.config.assertions);
in
result
// {
  inherit units failed;
  # NixOS refuses to build with failed assertions; so does this.
  checked =
    if failed == [ ] then
      result.config
    else
      throw "Failed assertions:\n${lib.concatMapStrings (m: "- ${m}\n") failed}";
}
