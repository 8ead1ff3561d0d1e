# services.coturn with the option names of NixOS, and a unit that behaves as NixOS' does where the
# project's module depends on it: user turnserver, the configuration written by preStart to
# /run/coturn/turnserver.cfg with the secret put in place there. A machine with the stateVersion
# 24.11 gets the unit of that release, whose /run/coturn comes from tmpfiles.d.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  t = lib.types;
  cfg = config.services.coturn;
  option = type: default: lib.mkOption { inherit type default; };
  isOld = config.system.stateVersion == "24.11";
  flags = [
    "lt-cred-mech"
    "no-auth"
    "no-cli"
    "no-dtls"
    "no-tcp"
    "no-tcp-relay"
    "no-tls"
    "no-udp"
    "no-udp-relay"
    "secure-stun"
    "use-auth-secret"
  ];
  texts = [
    "cert"
    "cli-password"
    "dh-file"
    "pkey"
  ];
  numbers = {
    alt-listening-port = 3479;
    alt-tls-listening-port = 5350;
    listening-port = 3478;
    max-port = 65535;
    min-port = 49152;
    tls-listening-port = 5349;
  };
  file = pkgs.writeText "turnserver.conf" ''
    ${lib.concatMapStrings (f: lib.optionalString cfg.${f} "${f}\n") flags}
    ${lib.concatMapStrings (f: lib.optionalString (cfg.${f} != null) "${f}=${cfg.${f}}\n") texts}
    ${lib.concatMapStrings (n: "${n}=${toString cfg.${n}}\n") (lib.attrNames numbers)}
    ${lib.concatMapStrings (a: "listening-ip=${a}\n") cfg.listening-ips}
    ${lib.concatMapStrings (a: "relay-ip=${a}\n") cfg.relay-ips}
    realm=${cfg.realm}
    ${lib.optionalString (cfg.static-auth-secret-file != null) "static-auth-secret=@secret@"}
    no-stdout-log
    syslog
    pidfile=/run/turnserver/turnserver.pid
    ${cfg.extraConfig}
  '';
in
{
  options.services.coturn = {
    enable = option t.bool false;
    extraConfig = option t.lines "";
    listening-ips = option (t.listOf t.str) [ ];
    realm = option t.str config.networking.hostName;
    relay-ips = option (t.listOf t.str) [ ];
    static-auth-secret = option (t.nullOr t.str) null;
    static-auth-secret-file = option (t.nullOr t.str) null;
  }
  // lib.genAttrs flags (_: option t.bool false)
  // lib.genAttrs texts (_: option (t.nullOr t.str) null)
  // lib.mapAttrs (_: option t.int) numbers;

  config = lib.mkIf cfg.enable {
    users.users.turnserver = {
      group = "turnserver";
      isSystemUser = true;
    };
    users.groups.turnserver = { };
    systemd.tmpfiles.rules = lib.optional isOld "d /run/coturn 0700 turnserver turnserver - -";
    systemd.services.coturn = {
      description = "coturn TURN server";
      after = [ "network-online.target" ];
      wants = [ "network-online.target" ];
      wantedBy = [ "multi-user.target" ];
      preStart = ''
        text=$(< ${file})
        ${lib.optionalString (cfg.static-auth-secret-file != null) ''
          read -r secret < ${cfg.static-auth-secret-file}
          text=''${text//@secret@/$secret}
        ''}
        umask 077
        printf '%s\n' "$text" > /run/coturn/turnserver.cfg
      '';
      serviceConfig = {
        ExecStart = "${pkgs.coturn}/bin/turnserver -c /run/coturn/turnserver.cfg";
        Group = "turnserver";
        Restart = "on-abort";
        RuntimeDirectory = lib.optional (!isOld) "coturn" ++ [ "turnserver" ];
        RuntimeDirectoryMode = "0700";
        User = "turnserver";
      };
    };
  };
}
