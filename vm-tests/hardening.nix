# Every unit of ours on one machine; on another a controller with a port below 1024, and a relay
# alone on a system that has been NixOS 24.11; on a third a relay with a port below 1024.
{ module }:
let
  common = import ./common.nix { inherit module; };
in
{
  name = "hardening";
  nodes = {
    edge =
      { lib, ... }:
      {
        imports = [ common ];
        services.hydraneckwebrtc.controller = {
          enable = true;
          settings.server.listen = lib.mkForce ":80";
        };
        services.hydraneckwebrtc.turn.enable = true;
        system.stateVersion = "24.11";
      };
    machine = {
      imports = [ common ];
      services.hydraneckwebrtc = {
        controller.enable = true;
        worker.enable = true;
        worker.streamProgram = "testcard";
      };
    };
    relay = {
      imports = [ common ];
      services.hydraneckwebrtc.turn.enable = true;
      services.hydraneckwebrtc.turn.port = 443;
    };
  };
  testScript = builtins.readFile ./hardening.py;
}
