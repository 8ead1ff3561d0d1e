# A body: the double of Sunshine, GameStream and the agent that the program brings along.
{ address }:
{ config, lib, ... }:
{
  systemd.services.demo-body = {
    description = "a body for tests";
    after = [ "network-online.target" ];
    wants = [ "network-online.target" ];
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = "${lib.getExe config.services.hydraneckwebrtc.package} demo-body --address ${address}";
      Restart = "on-failure";
      RestartSec = 1;
    };
  };
  networking.firewall.enable = false;
}
