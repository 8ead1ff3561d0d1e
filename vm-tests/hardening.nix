# Every unit of ours on one machine, and a controller with ports below 1024 on another.
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
      };
    machine = {
      imports = [ common ];
      services.hydraneckwebrtc = {
        controller.enable = true;
        worker.enable = true;
        worker.streamProgram = "testcard";
      };
    };
  };
  testScript = builtins.readFile ./hardening.py;
}
