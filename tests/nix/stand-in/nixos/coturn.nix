# services.coturn with the option names of NixOS, and a unit that behaves as NixOS' does where the
# project's module depends on it: user turnserver, the configuration written by preStart to
# /run/coturn/turnserver.cfg with the secret put in place there, in a sandbox. A machine with the
# stateVersion 24.11 gets the unit of that release, without a sandbox and with /run/coturn from
# tmpfiles.d.
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
    alt-listening-port = cfg.listening-port + 1;
    alt-tls-listening-port = cfg.tls-listening-port + 1;
    cli-port = 5766;
    listening-port = 3478;
    max-port = 65535;
    min-port = 49152;
    tls-listening-port = 5349;
  };
  listensLow = lib.any (number: number < 1024) [
    cfg.alt-listening-port
    cfg.alt-tls-listening-port
    cfg.listening-port
    cfg.min-port
    cfg.tls-listening-port
  ];
  capabilities = if listensLow then [ "CAP_NET_BIND_SERVICE" ] else [ "" ];
  sandbox = {
    AmbientCapabilities = capabilities;
    CapabilityBoundingSet = capabilities;
    DevicePolicy = "closed";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateTmp = true;
    PrivateUsers = true;
    ProcSubset = "pid";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
    ]
    ++ lib.optional (cfg.listening-ips == [ ]) "AF_NETLINK";
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
    Type = "notify";
    UMask = "0077";
  };
  file = pkgs.writeText "turnserver.conf" ''
    ${lib.concatMapStrings (f: lib.optionalString cfg.${f} "${f}\n") flags}
    ${lib.concatMapStrings (f: lib.optionalString (cfg.${f} != null) "${f}=${cfg.${f}}\n") texts}
    ${lib.concatMapStrings (n: "${n}=${toString cfg.${n}}\n") (lib.attrNames numbers)}
    ${lib.concatMapStrings (a: "listening-ip=${a}\n") cfg.listening-ips}
    ${lib.concatMapStrings (a: "relay-ip=${a}\n") cfg.relay-ips}
    realm=${cfg.realm}
    cli-ip=${cfg.cli-ip}
    ${lib.optionalString (cfg.static-auth-secret-file != null) "static-auth-secret=@secret@"}
    no-stdout-log
    syslog
    pidfile=/run/turnserver/turnserver.pid
    ${cfg.extraConfig}
  '';
in
{
  options.services.coturn = {
    cli-ip = option t.str "127.0.0.1";
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
  // lib.mapAttrs (_: option t.port) numbers;

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.static-auth-secret == null || cfg.static-auth-secret-file == null;
        message = "static-auth-secret and static-auth-secret-file cannot be set at the same time";
      }
    ];
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
      }
      // lib.optionalAttrs isOld {
        AmbientCapabilities = lib.mkIf listensLow "cap_net_bind_service";
      }
      // lib.optionalAttrs (!isOld) sandbox;
    };
  };
}
