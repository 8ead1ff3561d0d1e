# A worker's relay, a stranger who wants to use it for something else, and another worker.
{ module }:
let
  common = import ./common.nix { inherit module; };
in
{
  name = "turn";
  nodes = {
    controller = {
      imports = [ common ];
      services.hydraneckwebrtc.controller = {
        enable = true;
        adminTokenFile = "/etc/tests/token";
        openFirewall = true;
      };
    };
    guest = {
      imports = [ common ];
    };
    worker = {
      imports = [ common ];
      services.hydraneckwebrtc.worker = {
        enable = true;
        controllerUrl = "http://controller:8080";
        controllerTokenFile = "/etc/tests/token";
        streamProgram = "testcard";
        openFirewall = true;
        settings.sessions.max = 2;
      };
      services.hydraneckwebrtc.turn.openFirewall = true;
      services.hydraneckwebrtc.turn.userQuota = 4;
    };
  };
  testScript = builtins.readFile ./turn.py;
}
