# The tunnel to the bodies: declared here, or one that exists already.
{ config, lib, ... }:
let
  inherit (lib)
    literalExpression
    mkDefault
    mkEnableOption
    mkIf
    mkOption
    types
    ;
  top = config.services.hydraneckwebrtc;
  cfg = top.wireguard;
  declares = cfg.enable && cfg.create;

  # Interfaces of networkd have no unit of their own; network-online.target covers them.
  usesNetworkd = config.networking.wireguard.useNetworkd or false;
  generatesKey = cfg.privateKeyFile == null && !usesNetworkd;
  unitOf =
    name:
    if cfg.create || (config.networking.wireguard.interfaces or { }) ? ${name} then
      (if usesNetworkd then null else "wireguard-${name}.service")
    else if (config.networking.wg-quick.interfaces or { }) ? ${name} then
      "wg-quick-${name}.service"
    else
      null;

  notInStore = option: file: {
    assertion = file == null || !(lib.hasPrefix builtins.storeDir (toString file));
    message = ''
      services.hydraneckwebrtc.wireguard.${option} lies in the Nix store, where every user can read it.
      Name a file outside of it as a string, for example "/run/keys/wireguard".
    '';
  };

  optional =
    type: example: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example description;
    };

  peer = types.submodule {
    options = {
      publicKey = mkOption {
        type = types.singleLineStr;
        example = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        description = "The peer's public key.";
      };
      allowedIPs = mkOption {
        type = types.listOf types.str;
        example = [ "10.10.100.6/32" ];
        description = "Addresses behind this peer; routes to them are set.";
      };
      endpoint =
        optional types.str "198.51.100.7:51820"
          "Where to send to, when the peer does not call first.";
      persistentKeepalive =
        optional types.ints.positive 25
          "Seconds between packets that keep a NAT mapping alive.";
      presharedKeyFile =
        optional types.path "/run/keys/wireguard-psk"
          "File with a key shared by both ends.";
    };
  };
in
{
  options.services.hydraneckwebrtc.wireguard = {
    enable = mkEnableOption "the worker's WireGuard tunnel to the bodies";

    interface = mkOption {
      type = types.strMatching "[a-zA-Z0-9_.-]{1,15}";
      default = "wg0";
      description = "Name of the interface.";
    };

    create = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to declare the interface; `false` uses one that is set up elsewhere.";
    };

    unit = mkOption {
      type = types.nullOr types.str;
      default = if cfg.enable then unitOf cfg.interface else null;
      defaultText = literalExpression ''"wireguard-wg0.service", or "wg-quick-wg0.service"'';
      example = "tailnet.service";
      description = "Unit that brings the interface up; the worker starts after it, and without it.";
    };

    addresses = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "10.10.0.2/16" ];
      description = "The worker's own addresses in the tunnel.";
    };

    listenPort = mkOption {
      type = types.nullOr types.port;
      default = null;
      example = 51820;
      description = "UDP port, for peers that call this machine.";
    };

    privateKeyFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/keys/wireguard";
      description = ''
        File with the private key. `null` generates one, once, into
        {file}`/var/lib/hydraneckwebrtc-wireguard/<interface>.key`;
        `wg show <interface> public-key` prints what the peers need. Where networkd sets the
        interface up ({option}`networking.wireguard.useNetworkd`), nothing is generated: name a file.
      '';
    };

    peers = mkOption {
      type = types.listOf peer;
      default = [ ];
      description = "The bodies, or the gateways to them.";
    };

    allowedNetworks = mkOption {
      type = types.listOf types.str;
      default = lib.concatMap (p: p.allowedIPs) cfg.peers;
      defaultText = literalExpression "the allowedIPs of all peers";
      example = [ "10.10.0.0/16" ];
      description = ''
        Networks in which bodies may be (`bodies.allowed_networks`). A session for an address
        elsewhere is refused. Empty leaves the program's own rule.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open `listenPort` in the firewall.";
    };
  };

  config = lib.mkMerge [
    (mkIf top.worker.enable {
      warnings = lib.optional (!cfg.enable) ''
        services.hydraneckwebrtc.worker runs without WireGuard: its health says degraded, and only bodies that this machine reaches otherwise can be used.
        Set services.hydraneckwebrtc.wireguard.enable, with create = false for an interface that exists already.
      '';
      services.hydraneckwebrtc.worker.settings = mkIf (cfg.enable && cfg.allowedNetworks != [ ]) {
        bodies.allowed_networks = mkDefault cfg.allowedNetworks;
      };
    })

    (mkIf declares {
      assertions = [
        {
          assertion = cfg.addresses != [ ];
          message = ''
            services.hydraneckwebrtc.wireguard.addresses is empty: the interface ${cfg.interface} would have no address.
            Set it, for example to [ "10.10.0.2/16" ], or set create = false.
          '';
        }
        {
          # networkd would not start without the file, and with it the machine's network.
          assertion = cfg.privateKeyFile != null || generatesKey;
          message = ''
            services.hydraneckwebrtc.wireguard.privateKeyFile is not set, and networkd, which sets the interface up here (networking.wireguard.useNetworkd), generates no key.
            Write one with `wg genkey` to a file on this machine and name it there.
          '';
        }
        (notInStore "privateKeyFile" cfg.privateKeyFile)
      ]
      ++ map (p: notInStore "peers.*.presharedKeyFile" p.presharedKeyFile) cfg.peers;

      networking.wireguard.enable = mkDefault true;
      networking.wireguard.interfaces.${cfg.interface} = {
        ips = cfg.addresses;
        inherit (cfg) listenPort;
        privateKeyFile =
          if cfg.privateKeyFile != null then
            toString cfg.privateKeyFile
          else
            "/var/lib/hydraneckwebrtc-wireguard/${cfg.interface}.key";
        generatePrivateKeyFile = generatesKey;
        peers = map (
          p:
          lib.filterAttrs (_: v: v != null) p
          // lib.optionalAttrs (p.presharedKeyFile != null) {
            presharedKeyFile = toString p.presharedKeyFile;
          }
        ) cfg.peers;
      };

      networking.firewall.allowedUDPPorts = mkIf (cfg.openFirewall && cfg.listenPort != null) [
        cfg.listenPort
      ];
    })
  ];
}
