# services.hydraneckwebrtc: a controller, a worker, or both on one machine, with the TURN relay
# and the WireGuard tunnel that a worker needs.
{
  imports = [
    ./options.nix
    ./services.nix
    ./turn.nix
    ./wireguard.nix
  ];
}
