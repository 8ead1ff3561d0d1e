# networking.wireguard with the option names of NixOS and the units it makes: one for the interface,
# one for its key, one for each peer. With networkd there are none of them, and what networkd cannot
# do is refused as NixOS refuses it. networking.wg-quick is kept and means nothing.
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
      allowedIPs = lib.mkOption { type = t.listOf t.str; };
      dynamicEndpointRefreshSeconds = maybe t.int;
      endpoint = maybe t.str;
      persistentKeepalive = maybe t.int;
      presharedKey = maybe t.str;
      presharedKeyFile = maybe t.str;
      publicKey = lib.mkOption { type = t.singleLineStr; };
    };
  };
  interface = t.submodule {
    options = {
      generatePrivateKeyFile = option t.bool false;
      ips = option (t.listOf t.str) [ ];
      listenPort = maybe t.int;
      mtu = maybe t.int;
      peers = option (t.listOf peer) [ ];
      privateKey = maybe t.str;
      privateKeyFile = maybe t.str;
    };
  };
  quick = t.submodule {
    options = {
      address = option (t.listOf t.str) [ ];
      autostart = option t.bool true;
      configFile = maybe t.str;
      listenPort = maybe t.int;
      privateKeyFile = maybe t.str;
    };
  };
  ip = "${pkgs.iproute2}/bin/ip";
  wg = "${pkgs.wireguard-tools}/bin/wg";
  argument = name: v: lib.optionalString (v != null) " ${name} ${toString v}";
  oneshot = {
    RemainAfterExit = true;
    Type = "oneshot";
  };
  unit = device: c: {
    name = "wireguard-${device}";
    value = {
      description = "WireGuard Tunnel - ${device}";
      after = [ "network-pre.target" ];
      wants = [ "network.target" ];
      before = [ "network.target" ];
      # In NixOS by way of wireguard-<name>.target.
      wantedBy = [ "multi-user.target" ];
      serviceConfig = oneshot;
      script = ''
        ${ip} link add dev ${device} type wireguard
        ${lib.concatMapStrings (a: "${ip} address add ${a} dev ${device}\n") c.ips}
        ${wg} set ${device}${argument "private-key" c.privateKeyFile}${argument "listen-port" c.listenPort}
        ${ip} link set up dev ${device}
      '';
      postStop = "${ip} link del dev ${device}";
    };
  };
  peerUnit = device: p: {
    # NixOS has the whole key in the name, escaped.
    name = "wireguard-${device}-peer-${lib.substring 0 8 (builtins.hashString "sha256" p.publicKey)}";
    value = {
      description = "WireGuard Peer - ${device}";
      requires = [ "wireguard-${device}.service" ];
      wants = [ "network-online.target" ];
      after = [
        "wireguard-${device}.service"
        "network-online.target"
      ];
      wantedBy = [ "wireguard-${device}.service" ];
      serviceConfig = oneshot;
      script = ''
        ${wg} set ${device} peer ${p.publicKey}${argument "preshared-key" p.presharedKeyFile}${argument "endpoint" p.endpoint}${argument "persistent-keepalive" p.persistentKeepalive} allowed-ips ${lib.concatStringsSep "," p.allowedIPs}
        ${lib.concatMapStrings (a: "${ip} route replace ${a} dev ${device}\n") p.allowedIPs}
      '';
      postStop = "${wg} set ${device} peer ${p.publicKey} remove";
    };
  };
  keyUnit = device: c: {
    name = "wireguard-${device}-key";
    value = {
      description = "WireGuard Tunnel - ${device} - Key Generator";
      before = [ "wireguard-${device}.service" ];
      requiredBy = [ "wireguard-${device}.service" ];
      wantedBy = [ "wireguard-${device}.service" ];
      serviceConfig = oneshot;
      script = ''
        mkdir -p --mode 0755 ${builtins.dirOf c.privateKeyFile}
        if [ ! -f ${c.privateKeyFile} ]; then (umask 077; ${wg} genkey > ${c.privateKeyFile}); fi
      '';
    };
  };
  withKeys = lib.filterAttrs (_: c: c.generatePrivateKeyFile) cfg.interfaces;
  refusals = name: c: [
    {
      assertion = (c.privateKey != null) != (c.privateKeyFile != null);
      message = "Either networking.wireguard.interfaces.${name}.privateKey or networking.wireguard.interfaces.${name}.privateKeyFile must be set.";
    }
    {
      assertion = !(cfg.useNetworkd && c.generatePrivateKeyFile);
      message = "networking.wireguard.interfaces.${name}.generatePrivateKeyFile cannot be used with networkd.";
    }
    {
      assertion = !cfg.useNetworkd || lib.all (lib.hasInfix "/") c.ips;
      message = "networking.wireguard.interfaces.${name}.ips requires a subnet with networkd.";
    }
  ];
in
{
  options.networking = {
    useNetworkd = option t.bool false;
    wireguard = {
      enable = option t.bool (cfg.interfaces != { });
      interfaces = option (t.attrsOf interface) { };
      useNetworkd = option t.bool config.networking.useNetworkd;
    };
    wg-quick.interfaces = option (t.attrsOf quick) { };
  };

  config = lib.mkIf cfg.enable {
    assertions = lib.concatLists (lib.mapAttrsToList refusals cfg.interfaces);
    systemd.services = lib.mkIf (!cfg.useNetworkd) (
      lib.listToAttrs (lib.mapAttrsToList unit cfg.interfaces)
      // lib.listToAttrs (lib.mapAttrsToList keyUnit withKeys)
      // lib.listToAttrs (
        lib.concatLists (lib.mapAttrsToList (device: c: map (peerUnit device) c.peers) cfg.interfaces)
      )
    );
  };
}
