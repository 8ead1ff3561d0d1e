# A controller, a worker and a body, as most tests want them.
{ module }:
let
  common = import ./common.nix { inherit module; };
in
{
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
      settings.workers.heartbeat_timeout = "5s";
      # These tests are about slots: the one body may have several sessions.
      settings.bodies.sessions_max = 6;
    };
  };
  worker = {
    imports = [ common ];
    services.hydraneckwebrtc.worker = {
      enable = true;
      id = "worker";
      controllerUrl = "http://controller:8080";
      controllerTokenFile = "/etc/tests/token";
      streamProgram = "testcard";
      openFirewall = true;
      sunshinePasswordFile = "/etc/tests/sunshine";
      settings.controller.heartbeat_interval = "1s";
      # No visitor stays in these tests; sessions wait for the next one.
      settings.sessions.disconnect_grace = "10m";
      settings.sessions.max = 3;
      settings.bodies.sessions_max = 6;
    };
    # Said, because a test machine's default route may lead elsewhere than to the other machines.
    services.hydraneckwebrtc.turn.host = "192.168.1.3";
    services.hydraneckwebrtc.turn.openFirewall = true;
    environment.etc."tests/sunshine" = {
      text = "sunshine\n";
      mode = "0400";
    };
  };
}
