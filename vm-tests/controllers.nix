# Two controllers, the etcd they share, two workers and a body: what one knows all know, and none
# of them is missed.
{ module }:
let
  common = import ./common.nix { inherit module; };
  fleet = import ./fleet.nix { inherit module; };
  controller = {
    imports = [ fleet.controller ];
    services.hydraneckwebrtc.controller.etcd.endpoints = [ "http://store:2379" ];
    services.hydraneckwebrtc.controller.settings.controller.heartbeat_interval = "1s";
  };
  worker =
    id: address:
    { lib, ... }:
    {
      imports = [ fleet.worker ];
      services.hydraneckwebrtc.worker.id = lib.mkForce id;
      services.hydraneckwebrtc.worker.controllerUrl = lib.mkForce [
        "http://controller1:8080"
        "http://controller2:8080"
      ];
      services.hydraneckwebrtc.turn.host = lib.mkForce address;
    };
in
{
  name = "controllers";
  nodes = {
    inherit (fleet) body;
    controller1 = controller;
    controller2 = controller;
    store = {
      imports = [ common ];
      services.etcd = {
        enable = true;
        listenClientUrls = [ "http://0.0.0.0:2379" ];
        advertiseClientUrls = [ "http://store:2379" ];
        extraConf.AUTO_COMPACTION_RETENTION = "1h";
      };
      networking.firewall.enable = false;
    };
    worker1 = worker "worker1" "192.168.1.5";
    worker2 = worker "worker2" "192.168.1.6";
  };
  testScript = builtins.readFile ./controllers.py;
}
