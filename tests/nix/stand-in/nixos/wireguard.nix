# networking.wireguard with the option names of NixOS and the units it makes: one for the
# interface, one for its key, peers set by the interface's own unit.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  t = lib.types;
  cfg = config.networking.wireguard;
  option = type: default: lib.mkOption { inherit type default; };
  maybe = type: option (t.nullOr type) null;
  peer = t.submodule {
    options = {
      allowedIPs = option (t.listOf t.str) [ ];
      dynamicEndpointRefreshSeconds = option t.int 0;
      endpoint = maybe t.str;
      persistentKeepalive = maybe t.int;
      presharedKeyFile = maybe t.str;
      publicKey = lib.mkOption { type = t.str; };
    };
  };
  interface = t.submodule {
    options = {
      generatePrivateKeyFile = option t.bool false;
      ips = option (t.listOf t.str) [ ];
      listenPort = maybe t.int;
      mtu = maybe t.int;
      peers = option (t.listOf peer) [ ];
      privateKeyFile = maybe t.path;
    };
  };
  ip = "${pkgs.iproute2}/bin/ip";
  wg = "${pkgs.wireguard-tools}/bin/wg";
  argument = name: v: lib.optionalString (v != null) " ${name} ${toString v}";
  peerCommands =
    device: p:
    ''
      ${wg} set ${device} peer ${p.publicKey}${argument "preshared-key" p.presharedKeyFile}${argument "endpoint" p.endpoint}${argument "persistent-keepalive" p.persistentKeepalive} allowed-ips ${lib.concatStringsSep "," p.allowedIPs}
    ''
    + lib.concatMapStrings (a: "${ip} route replace ${a} dev ${device}\n") p.allowedIPs;
  unit = device: c: {
    name = "wireguard-${device}";
    value = {
      description = "WireGuard Tunnel - ${device}";
      after = [ "network-pre.target" ];
      wants = [ "network.target" ];
      before = [ "network.target" ];
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        RemainAfterExit = true;
        Type = "oneshot";
      };
      script = ''
        ${ip} link add dev ${device} type wireguard
        ${lib.concatMapStrings (a: "${ip} address add ${a} dev ${device}\n") c.ips}
        ${wg} set ${device}${argument "private-key" c.privateKeyFile}${argument "listen-port" c.listenPort}
        ${ip} link set up dev ${device}
        ${lib.concatMapStrings (peerCommands device) c.peers}
      '';
      postStop = "${ip} link del dev ${device}";
    };
  };
  keyUnit = device: c: {
    name = "wireguard-${device}-key";
    value = {
      description = "WireGuard Tunnel - ${device} - Key Generator";
      before = [ "wireguard-${device}.service" ];
      requiredBy = [ "wireguard-${device}.service" ];
      serviceConfig = {
        RemainAfterExit = true;
        Type = "oneshot";
      };
      script = ''
        mkdir -p --mode 0755 ${builtins.dirOf c.privateKeyFile}
        if [ ! -f ${c.privateKeyFile} ]; then (umask 077; ${wg} genkey > ${c.privateKeyFile}); fi
      '';
    };
  };
  withKeys = lib.filterAttrs (_: c: c.generatePrivateKeyFile) cfg.interfaces;
in
{
  options.networking.wireguard = {
    enable = option t.bool false;
    interfaces = option (t.attrsOf interface) { };
    useNetworkd = option t.bool false;
  };
  options.networking.wg-quick.interfaces = option (t.attrsOf t.anything) { };

  config.systemd.services =
    lib.listToAttrs (lib.mapAttrsToList unit cfg.interfaces)
    // lib.listToAttrs (lib.mapAttrsToList keyUnit withKeys);
}
