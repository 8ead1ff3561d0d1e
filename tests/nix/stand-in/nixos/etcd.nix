# services.etcd with the option names of NixOS, as far as the tests set them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  t = lib.types;
  cfg = config.services.etcd;
  option = type: default: lib.mkOption { inherit type default; };
  urls = lib.concatStringsSep ",";
in
{
  options.services.etcd = {
    enable = option t.bool false;
    advertiseClientUrls = option (t.listOf t.str) cfg.listenClientUrls;
    extraConf = option (t.attrsOf t.str) { };
    initialAdvertisePeerUrls = option (t.listOf t.str) cfg.listenPeerUrls;
    initialCluster = option (t.listOf t.str) [ "${cfg.name}=http://127.0.0.1:2380" ];
    listenClientUrls = option (t.listOf t.str) [ "http://127.0.0.1:2379" ];
    listenPeerUrls = option (t.listOf t.str) [ "http://127.0.0.1:2380" ];
    name = option t.str config.networking.hostName;
  };

  config = lib.mkIf cfg.enable {
    systemd.services.etcd = {
      description = "etcd key-value store";
      after = [ "network-online.target" ];
      wants = [ "network-online.target" ];
      wantedBy = [ "multi-user.target" ];
      environment = {
        ETCD_ADVERTISE_CLIENT_URLS = urls cfg.advertiseClientUrls;
        ETCD_DATA_DIR = "/var/lib/etcd";
        ETCD_INITIAL_ADVERTISE_PEER_URLS = urls cfg.initialAdvertisePeerUrls;
        ETCD_INITIAL_CLUSTER = urls cfg.initialCluster;
        ETCD_LISTEN_CLIENT_URLS = urls cfg.listenClientUrls;
        ETCD_LISTEN_PEER_URLS = urls cfg.listenPeerUrls;
        ETCD_NAME = cfg.name;
      }
      // lib.mapAttrs' (name: value: {
        name = "ETCD_${name}";
        inherit value;
      }) cfg.extraConf;
      serviceConfig = {
        ExecStart = "${pkgs.etcd}/bin/etcd";
        Restart = "always";
        RestartSec = "30s";
        StateDirectory = "etcd";
        Type = "notify";
      };
    };
  };
}
