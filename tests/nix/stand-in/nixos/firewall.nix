# networking.firewall as NixOS' nftables backend means it: what comes from outside is dropped
# unless it answers something, is a ping, or is for an open port.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  t = lib.types;
  cfg = config.networking.firewall;
  option = type: default: lib.mkOption { inherit type default; };
  ports = option (t.listOf t.port) [ ];
  ranges = option (t.listOf (t.attrsOf t.port)) [ ];
  openings = {
    allowedTCPPortRanges = ranges;
    allowedTCPPorts = ports;
    allowedUDPPortRanges = ranges;
    allowedUDPPorts = ports;
  };
  accept =
    where: protocol: single: several:
    let
      set = map toString single ++ map (r: "${toString r.from}-${toString r.to}") several;
    in
    lib.optionalString (
      set != [ ]
    ) "    ${where}${protocol} dport { ${lib.concatStringsSep ", " set} } accept\n";
  rules =
    where: o:
    accept where "tcp" o.allowedTCPPorts o.allowedTCPPortRanges
    + accept where "udp" o.allowedUDPPorts o.allowedUDPPortRanges;
  ruleset = pkgs.writeText "firewall.nft" ''
    flush ruleset
    table inet nixos-fw {
      chain input {
        type filter hook input priority filter; policy drop;
        iifname { ${
          lib.concatMapStringsSep ", " (i: "\"${i}\"") ([ "lo" ] ++ cfg.trustedInterfaces)
        } } accept
        ct state { established, related } accept
        icmp type echo-request accept
        icmpv6 type != nd-redirect accept
    ${rules "" cfg}${
      lib.concatStrings (lib.mapAttrsToList (name: rules "iifname \"${name}\" ") cfg.interfaces)
    }
      }
    }
  '';
in
{
  options.networking.firewall = openings // {
    enable = option t.bool true;
    interfaces = option (t.attrsOf (t.submodule { options = openings; })) { };
    trustedInterfaces = option (t.listOf t.str) [ ];
  };

  config.systemd.services.firewall = lib.mkIf cfg.enable {
    description = "Firewall";
    before = [ "network-pre.target" ];
    wants = [ "network-pre.target" ];
    wantedBy = [ "sysinit.target" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      ExecStart = "${pkgs.nftables}/bin/nft -f ${ruleset}";
      RemainAfterExit = true;
      Type = "oneshot";
    };
  };
}
