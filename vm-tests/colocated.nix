# Controller and worker on one machine, configured in three lines (and a test picture).
{ module }:
let
  common = import ./common.nix { inherit module; };
in
{
  name = "colocated";
  nodes = {
    body.imports = [
      common
      (import ./body.nix { address = "192.168.1.1"; })
    ];
    machine = {
      imports = [ common ];
      services.hydraneckwebrtc.controller.enable = true;
      services.hydraneckwebrtc.worker.enable = true;
      services.hydraneckwebrtc.worker.streamProgram = "testcard";
    };
  };
  testScript = builtins.readFile ./colocated.py;
}
