# A worker's relay, a guest who watches a stream through it or wants it for something else.
{ module }:
let
  common = import ./common.nix { inherit module; };
in
{
  name = "turn";
  nodes = {
    body.imports = [
      common
      (import ./body.nix { address = "192.168.1.1"; })
    ];
    controller = {
      imports = [ common ];
      services.hydraneckwebrtc.controller = {
        enable = true;
        adminTokenFile = "/etc/tests/token";
        openFirewall = true;
      };
    };
    guest =
      { pkgs, ... }:
      {
        imports = [ common ];
        environment.systemPackages = [ pkgs.chromium ];
        virtualisation.memorySize = 2048;
      };
    worker = {
      imports = [ common ];
      services.hydraneckwebrtc.worker = {
        enable = true;
        controllerUrl = "http://controller:8080";
        controllerTokenFile = "/etc/tests/token";
        streamProgram = "testcard";
        openFirewall = true;
        settings.controller.heartbeat_interval = "1s";
        settings.sessions.max = 2;
      };
      # Said, because a test machine's default route may lead elsewhere than to the other machines.
      services.hydraneckwebrtc.turn.host = "192.168.1.4";
      services.hydraneckwebrtc.turn.openFirewall = true;
    };
  };
  testScript = builtins.readFile ./turn.py;
}
