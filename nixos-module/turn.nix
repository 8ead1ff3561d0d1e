# coturn as a relay for this worker's sessions and for nothing else.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkDefault
    mkIf
    mkMerge
    mkOption
    types
    ;
  top = config.services.hydraneckwebrtc;
  cfg = top.turn;
  hardening = import ./hardening.nix;
  units = import ./units.nix;

  # Older ones let a peer written as ::ffff:127.0.0.1 past denied-peer-ip (CVE-2026-27624).
  oldestSafe = "4.9.0";

  # Relay addresses one session may hold: browser, streamer and microphone each allocate once per
  # transport offered (UDP, TCP, TLS) while ICE gathers, and a reload doubles that for a moment.
  portsPerSession = 20;

  portsOfSessions = top.worker.settings.sessions.max * cfg.userQuota;
  ports = cfg.maxPort - cfg.minPort + 1;

  secret =
    if cfg.secretFile != null then toString cfg.secretFile else "${units.secretsDirectory}/turn-secret";
  usesUser = cfg.staticUser != null;
  usesNixosCertificates = cfg.acmeHost != null;
  certificate = config.security.acme.certs.${cfg.acmeHost};
  acmeUnit = "acme-${cfg.acmeHost}.service";
  hasTls = cfg.tls != null || usesNixosCertificates;
  usesLowPort = cfg.port < 1024 || (hasTls && cfg.tlsPort < 1024);
  tlsFile =
    text:
    mkOption {
      type = types.path;
      description = text;
    };
  credentialsDirectory = "/run/credentials/coturn.service";
  runConfig = "/run/coturn/turnserver.cfg"; # of the stock unit
  prepared =
    lib.optional (cfg.allowedPeers == [ ]) "hydraneckwebrtc-addresses.service"
    ++ lib.optional (!usesUser && cfg.secretFile == null) "hydraneckwebrtc-secrets.service";
in
{
  options.services.hydraneckwebrtc.turn = {
    enable = mkOption {
      type = types.bool;
      default = top.worker.enable;
      defaultText = literalExpression "worker.enable";
      description = ''
        Whether to run coturn for this worker. Without it, set `settings.ice_servers` or
        `settings.turn` of the worker to a relay of yours.
      '';
    };

    host = mkOption {
      type = types.nullOr types.str;
      default =
        if cfg.publicAddress != null then
          cfg.publicAddress
        else if top.controller.enable then
          top.controller.domain
        else
          null;
      defaultText = literalExpression "publicAddress, else the domain of the controller on this machine";
      example = "worker1.example.com";
      description = ''
        Name or address under which browsers reach the relay. `null` means the machine's own
        address, taken from the default route when the worker starts.
      '';
    };

    publicAddress = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "203.0.113.20";
      description = "Public address of a machine behind one-to-one NAT (coturn's `external-ip`).";
    };

    realm = mkOption {
      type = types.str;
      default = if top.controller.domain != null then top.controller.domain else "hydraneckwebrtc";
      defaultText = literalExpression ''controller.domain or "hydraneckwebrtc"'';
      description = "Realm of the relay's credentials.";
    };

    port = mkOption {
      type = types.port;
      default = 3478;
      description = "UDP and TCP port of the relay.";
    };

    tlsPort = mkOption {
      type = types.port;
      default = 5349;
      description = "TLS port of the relay, used when `tls` or `acmeHost` is set.";
    };

    minPort = mkOption {
      type = types.port;
      default = 49152;
      description = "First UDP port of relayed media.";
    };

    maxPort = mkOption {
      type = types.port;
      default = lib.min 65535 (cfg.minPort + portsOfSessions - 1);
      defaultText = literalExpression "minPort + userQuota for each of worker.settings.sessions.max";
      description = ''
        Last UDP port of relayed media. As many allocations as there are ports are served at a time
        (`total-quota`).
      '';
    };

    secretFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/keys/turn-secret";
      description = ''
        File with the secret from which worker and relay derive each session's credentials: letters
        and digits, one line. `null` generates one, once, into
        {file}`/var/lib/hydraneckwebrtc-secrets/turn-secret`.
      '';
    };

    staticUser = mkOption {
      type = types.nullOr (
        types.submodule {
          options.name = mkOption {
            type = types.strMatching "[A-Za-z0-9_.-]+";
            default = "hydraturn";
            description = "User name.";
          };
          options.passwordFile = mkOption {
            type = types.path;
            description = "File with the password: one line.";
          };
        }
      );
      default = null;
      description = ''
        One long-lived user (`lt-cred-mech`) in place of credentials that are made for each session
        and expire. Who learns it can use the relay until it is changed.
      '';
    };

    tls = mkOption {
      type = types.nullOr (
        types.submodule {
          options.certificateFile = tlsFile "Certificate chain (PEM).";
          options.keyFile = tlsFile "Private key (PEM).";
        }
      );
      default = null;
      example = literalExpression ''
        {
          certificateFile = "/var/lib/acme/worker1.example.com/fullchain.pem";
          keyFile = "/var/lib/acme/worker1.example.com/key.pem";
        }
      '';
      description = ''
        Certificate for TURN over TLS, for networks that let nothing else out. Read when coturn
        starts; for one that is renewed see `acmeHost`.
      '';
    };

    acmeHost = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "worker1.example.com";
      description = ''
        Certificate for TURN over TLS by its name in {option}`security.acme.certs`, in place of
        `tls`. A renewed one is served without a restart.
      '';
    };

    allowedPeers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "203.0.113.20" ];
      description = ''
        Addresses, or ranges `first-last`, that the relay may send to. Empty means the machine's
        own addresses other than loopback and tunnels, read when coturn starts, and
        `publicAddress`. Every other peer is refused.
      '';
    };

    userQuota = mkOption {
      type = types.ints.positive;
      default = portsPerSession;
      description = "Allocations that one session's credential may hold at a time.";
    };

    acceptOldCoturn = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to run a coturn older than ${oldestSafe}, which has CVE-2026-27624. The relay's
        rules here deny IPv6 peers as a whole, the mapped form included.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open the relay's ports in the firewall.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.acceptOldCoturn || lib.versionAtLeast (lib.getVersion pkgs.coturn) oldestSafe;
        message = ''
          services.hydraneckwebrtc.turn: coturn ${lib.getVersion pkgs.coturn} is older than ${oldestSafe} and has CVE-2026-27624 (peers written as ::ffff:127.0.0.1 pass denied-peer-ip).
          Overlay a newer coturn, or set services.hydraneckwebrtc.turn.acceptOldCoturn = true.
        '';
      }
      {
        assertion = portsOfSessions <= ports;
        message = ''
          services.hydraneckwebrtc.turn: ports ${toString cfg.minPort} to ${toString cfg.maxPort} are too few for ${toString top.worker.settings.sessions.max} sessions with ${toString cfg.userQuota} allocations each.
          Lower minPort, userQuota or worker.settings.sessions.max.
        '';
      }
      {
        assertion = cfg.tls == null || !usesNixosCertificates;
        message = ''
          services.hydraneckwebrtc.turn: both tls and acmeHost are set, and coturn serves one certificate.
          Unset one of them.
        '';
      }
    ]
    ++
      map
        (path: {
          assertion = !(lib.hasPrefix builtins.storeDir path);
          message = ''
            services.hydraneckwebrtc.turn: the secret file ${path} lies in the Nix store, where every user can read it.
            Name a file outside of it as a string, for example "/run/keys/turn-secret".
          '';
        })
        (
          (if usesUser then [ (toString cfg.staticUser.passwordFile) ] else [ secret ])
          ++ lib.optional (cfg.tls != null) (toString cfg.tls.keyFile)
        );

    services.coturn = mkMerge [
      {
        enable = true;
        inherit (cfg) realm;
        listening-port = cfg.port;
        tls-listening-port = cfg.tlsPort;
        min-port = cfg.minPort;
        max-port = cfg.maxPort;
        no-cli = true;
        no-tcp-relay = true;
        no-tls = !hasTls;
        no-dtls = !hasTls;
        extraConfig = ''
          fingerprint
          no-multicast-peers
          no-software-attribute
          stale-nonce=600
          user-quota=${toString cfg.userQuota}
          total-quota=${toString ports}
          ${lib.optionalString (cfg.publicAddress != null) "external-ip=${cfg.publicAddress}"}
          denied-peer-ip=0.0.0.0-255.255.255.255
          denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
          ${lib.concatMapStrings (peer: "allowed-peer-ip=${peer}\n") (
            cfg.allowedPeers
            ++ lib.optional (cfg.publicAddress != null && cfg.allowedPeers == [ ]) cfg.publicAddress
          )}
        '';
      }
      (
        if usesUser then
          { lt-cred-mech = true; }
        else
          {
            use-auth-secret = true;
            static-auth-secret-file = "${credentialsDirectory}/turn-secret";
          }
      )
      (mkIf (cfg.tls != null) {
        cert = "${credentialsDirectory}/tls-certificate";
        pkey = "${credentialsDirectory}/tls-key";
      })
      (mkIf usesNixosCertificates {
        cert = "${certificate.directory}/fullchain.pem";
        pkey = "${certificate.directory}/key.pem";
      })
    ];

    security.acme.certs = mkIf usesNixosCertificates {
      ${cfg.acmeHost}.reloadServices = [ "coturn.service" ];
    };

    systemd.services.coturn = {
      requires = prepared;
      wants = lib.optional usesNixosCertificates acmeUnit;
      after = prepared ++ lib.optional usesNixosCertificates acmeUnit;

      # A restart ends what is relayed, and pages connect anew: one step, not a gap as long as the
      # switch to a new system takes.
      stopIfChanged = mkDefault false;

      # systemd hands coturn what only root can read; addresses and the static user are known on
      # the machine alone and are added to the file that the service writes for itself.
      preStart = lib.mkAfter ''
        ${lib.optionalString (cfg.allowedPeers == [ ]) ''
          while read -r address; do
            printf 'allowed-peer-ip=%s\n' "$address" >> ${runConfig}
          done < ${units.addressesDirectory}/peers
        ''}
        ${lib.optionalString usesUser ''
          read -r password < ${credentialsDirectory}/turn-password
          printf 'user=%s:%s\n' ${lib.escapeShellArg cfg.staticUser.name} "$password" >> ${runConfig}
        ''}
      '';

      # The stock unit of the last releases has a sandbox, and its settings win; older ones get it
      # from here. But its user namespace has no say over ports below 1024, whatever capabilities
      # the service has in it.
      serviceConfig =
        lib.mapAttrs (_: mkDefault) (
          hardening.turn
          // lib.optionalAttrs usesLowPort hardening.lowPorts
          // {
            # Of tmpfiles.d in older releases, of the unit's own in later ones.
            ReadWritePaths = [ "-/run/coturn" ];
          }
        )
        // lib.optionalAttrs usesLowPort { PrivateUsers = lib.mkForce hardening.lowPorts.PrivateUsers; }
        // lib.optionalAttrs usesNixosCertificates {
          ExecReload = "${pkgs.coreutils}/bin/kill -USR2 $MAINPID"; # reads certificates again
          SupplementaryGroups = [ certificate.group ];
        }
        // {
          LoadCredential =
            (
              if usesUser then
                [ "turn-password:${toString cfg.staticUser.passwordFile}" ]
              else
                [ "turn-secret:${secret}" ]
            )
            ++ lib.optionals (cfg.tls != null) [
              "tls-certificate:${toString cfg.tls.certificateFile}"
              "tls-key:${toString cfg.tls.keyFile}"
            ];
        };
    };

    # What the worker tells browsers and stream processes.
    services.hydraneckwebrtc.worker.settings =
      let
        host = if cfg.host != null then cfg.host else "@address@";
        urls = [
          "turn:${host}:${toString cfg.port}?transport=udp"
          "turn:${host}:${toString cfg.port}?transport=tcp"
        ]
        ++ lib.optional hasTls "turns:${host}:${toString cfg.tlsPort}?transport=tcp";
      in
      mkIf top.worker.enable (
        if usesUser then
          {
            ice_servers = mkDefault [
              {
                inherit urls;
                username = cfg.staticUser.name;
                credential_file = "turn-password";
              }
            ];
          }
        else
          {
            turn.secret_file = mkDefault "turn-secret";
            turn.urls = mkDefault urls;
          }
      );

    networking.firewall = mkIf cfg.openFirewall {
      allowedTCPPorts = [ cfg.port ] ++ lib.optional hasTls cfg.tlsPort;
      allowedUDPPorts = [ cfg.port ] ++ lib.optional hasTls cfg.tlsPort;
      allowedUDPPortRanges = [
        {
          from = cfg.minPort;
          to = cfg.maxPort;
        }
      ];
    };
  };
}
