# A body: the double of Sunshine, GameStream and the agent that the program brings along.
{ address }:
{ config, lib, ... }:
{
  systemd.services.demo-body = {
    description = "a body for tests";
    after = [ "network-online.target" ];
    wants = [ "network-online.target" ];
    wantedBy = [ "multi-user.target" ];
    # The address may come later than the program, as that of a tunnel does.
    unitConfig.StartLimitIntervalSec = 0;
    serviceConfig = {
      ExecStart = "${lib.getExe config.services.hydraneckwebrtc.package} demo-body --address ${address}";
      Restart = "on-failure";
      RestartSec = 1;
    };
  };
  networking.firewall.enable = false;
}
