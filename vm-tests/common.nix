# What every machine of the tests has.
{ module }:
{ pkgs, ... }:
{
  imports = [ module ];
  environment.systemPackages = [
    pkgs.coturn
    pkgs.curl
    pkgs.iproute2
    pkgs.jq
    pkgs.python3
    pkgs.wireguard-tools
  ];
  # A real browser, a client for the relay's bad guests, and one for the page's signalling.
  environment.etc."tests/tools".source = ./tools;
  # One token for the fleet, known to the scripts.
  environment.etc."tests/token" = {
    text = "fleet-token\n";
    mode = "0400";
  };
}
