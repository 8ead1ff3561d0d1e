# What configurations mean: each case is a list of facts about an evaluated machine, and the
# answer is the list of those that do not hold.
let
  inherit (import ./machine.nix)
    bare
    lib
    machine
    pkgs
    ;

  colocated = machine {
    services.hydraneckwebrtc.controller.enable = true;
    services.hydraneckwebrtc.controller.domain = "neck.example.com";
    services.hydraneckwebrtc.worker.enable = true;
  };
  controller = machine {
    services.hydraneckwebrtc.controller.enable = true;
    services.hydraneckwebrtc.controller.domain = "neck.example.com";
    services.hydraneckwebrtc.controller.adminTokenFile = "/run/keys/neck";
  };
  several = machine {
    services.hydraneckwebrtc = {
      controller = {
        enable = true;
        adminTokenFile = "/run/keys/neck";
        etcd.endpoints = [ "https://etcd-1:2379" ];
        etcd.username = "neck";
        etcd.passwordFile = "/run/keys/etcd";
      };
      worker.enable = true;
      worker.controllerUrl = [
        "http://127.0.0.1:8080"
        "http://neck-2:8080"
      ];
    };
  };
  worker = machine {
    services.hydraneckwebrtc.worker.enable = true;
    services.hydraneckwebrtc.worker.controllerUrl = "https://neck.example.com";
    services.hydraneckwebrtc.worker.controllerTokenFile = "/run/keys/neck";
  };
  full = machine {
    services.hydraneckwebrtc = {
      district = "bxl1";
      worker = {
        enable = true;
        controllerUrl = "https://neck.example.com";
        controllerTokenFile = "/run/keys/neck";
        id = "bxl1-3";
        openFirewall = true;
        credentials.nps-token = "/run/keys/nps";
        settings.nps = {
          url = "https://nps.example.com";
          token_file = "nps-token";
        };
        settings.sessions.max = 4;
      };
      turn = {
        publicAddress = "203.0.113.20";
        openFirewall = true;
        tls.certificateFile = "/var/lib/acme/w/fullchain.pem";
        tls.keyFile = "/var/lib/acme/w/key.pem";
      };
      wireguard = {
        enable = true;
        addresses = [ "10.10.0.2/16" ];
        listenPort = 51820;
        openFirewall = true;
        peers = [
          {
            publicKey = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
            allowedIPs = [ "10.10.100.6/32" ];
          }
        ];
      };
    };
  };
  existingTunnel = machine {
    networking.wg-quick.interfaces.wg7 = { };
    services.hydraneckwebrtc = {
      controller.enable = true;
      worker.enable = true;
      wireguard.enable = true;
      wireguard.create = false;
      wireguard.interface = "wg7";
    };
  };
  static = machine {
    services.hydraneckwebrtc = {
      controller.enable = true;
      worker.enable = true;
      turn.staticUser.passwordFile = "/run/keys/turn";
    };
  };
  nixosCertificates = machine {
    security.acme.acceptTerms = true;
    security.acme.certs."example.com".dnsProvider = "rfc2136";
    services.hydraneckwebrtc = {
      controller = {
        enable = true;
        domain = "neck.example.com";
        tls = "security.acme";
        acmeHost = "example.com";
      };
      worker.enable = true;
      turn.acmeHost = "example.com";
    };
  };
  behindProxy = machine {
    services.hydraneckwebrtc.controller = {
      enable = true;
      domain = "neck.example.com";
      tls = "proxy";
    };
  };

  # Media from elsewhere: without the relay, or with one on another machine.
  direct = machine {
    services.hydraneckwebrtc = {
      controller.enable = true;
      worker = {
        enable = true;
        openFirewall = true;
        settings.server.listen = ":08090";
        settings.sessions.max = 4;
        settings.sessions.relay_only = false;
      };
    };
  };
  relayElsewhere = machine {
    services.hydraneckwebrtc = {
      controller.enable = true;
      worker.enable = true;
      worker.openFirewall = true;
      worker.credentials.turn-secret = "/run/keys/turn";
      worker.settings.mic.enabled = false;
      worker.settings.turn.secret_file = "turn-secret";
      worker.settings.turn.urls = [ "turn:relay.example.com" ];
      turn.enable = false;
    };
  };
  # By networkd, which has no unit for an interface and generates no key.
  networkd = machine {
    networking.useNetworkd = true;
    services.hydraneckwebrtc = {
      controller.enable = true;
      worker.enable = true;
      wireguard.enable = true;
      wireguard.addresses = [ "10.10.0.2/16" ];
      wireguard.privateKeyFile = "/run/keys/wireguard";
    };
  };
  lowRelay = machine {
    services.hydraneckwebrtc.turn = {
      enable = true;
      port = 443;
    };
  };
  relayAlone = machine {
    services.hydraneckwebrtc.turn = {
      enable = true;
      secretFile = "/run/keys/turn";
      allowedPeers = [ "203.0.113.20" ];
    };
  };
  named = machine {
    services.hydraneckwebrtc.worker = {
      enable = true;
      controllerUrl = "https://neck.example.com";
      controllerTokenFile = "/run/keys/neck";
      openFirewall = true;
      settings.server.domain = "worker1.example.com";
    };
  };

  webServer =
    program:
    (settings (machine {
      services.hydraneckwebrtc.controller.enable = true;
      services.hydraneckwebrtc.worker.enable = true;
      services.hydraneckwebrtc.worker.streamProgram = program;
    })).sessions.web_server;
  fromSettings = {
    services.hydraneckwebrtc.controller.enable = true;
    services.hydraneckwebrtc.worker.enable = true;
    services.hydraneckwebrtc.worker.settings.sessions.web_server = "/srv/mws/web-server";
  };

  service = m: name: m.checked.systemd.services.${name}.serviceConfig;
  unit = m: name: m.checked.systemd.services.${name};
  settingsOf = role: m: m.config.services.hydraneckwebrtc.${role}.settings;
  settings = settingsOf "worker";
  coturn = m: m.checked.services.coturn;
  says = text: lib.any (lib.hasInfix text);

  cases = {
    a_colocated_machine_takes_four_lines = {
      both_units =
        (unit colocated "hydraneckwebrtc").wantedBy == [ "multi-user.target" ]
        && (unit colocated "hydraneckwebrtc-controller").wantedBy == [ "multi-user.target" ];
      one_token_for_both =
        lib.elem "admin-token:/var/lib/hydraneckwebrtc-secrets/admin-token" (service colocated "hydraneckwebrtc")
        .LoadCredential
        && lib.elem "admin-token:/var/lib/hydraneckwebrtc-secrets/admin-token" (service colocated "hydraneckwebrtc-controller")
        .LoadCredential;
      generates_what_is_missing = lib.hasInfix "admin-token turn-secret worker-id" (service colocated "hydraneckwebrtc-secrets")
      .ExecStart;
      worker_stays_on_loopback = (settings colocated).server.listen == "127.0.0.1:8090";
      relay_is_told_by_name = lib.hasPrefix "turn:neck.example.com:3478" (
        lib.head (settings colocated).turn.urls
      );
      no_port_is_open_unasked = colocated.checked.networking.firewall.allowedTCPPorts == [ ];
    };
    a_controller_takes_three_lines = {
      runs_alone =
        !(controller.checked.systemd.services ? hydraneckwebrtc)
        && !(controller.checked.systemd.services ? coturn);
      low_ports =
        (service controller "hydraneckwebrtc-controller").AmbientCapabilities == "CAP_NET_BIND_SERVICE";
      given_token =
        (service controller "hydraneckwebrtc-controller").LoadCredential
        == [ "admin-token:/run/keys/neck" ];
      nothing_to_generate = !(controller.checked.systemd.services ? hydraneckwebrtc-secrets);
    };
    several_controllers_share_an_etcd = {
      store =
        several.config.services.hydraneckwebrtc.controller.settings.store.etcd == {
          endpoints = [ "https://etcd-1:2379" ];
          username = "neck";
          password_file = "etcd-password";
        };
      password_is_a_credential = lib.elem "etcd-password:/run/keys/etcd" (service several "hydraneckwebrtc-controller")
      .LoadCredential;
      workers_know_all = lib.length (settings several).controller.url == 2;
      alone_without = !(controller.config.services.hydraneckwebrtc.controller.settings ? store);
    };
    a_worker_takes_four_lines = {
      no_controller = !(worker.checked.systemd.services ? hydraneckwebrtc-controller);
      relay_runs = worker.checked.services.coturn.enable;
      warns_without_tunnel = says "without WireGuard" worker.checked.warnings;
      after_its_secrets = lib.elem "hydraneckwebrtc-secrets.service" (unit worker "hydraneckwebrtc")
      .requires;
    };
    a_stream_program_is_a_package_a_path_or_the_test_card = {
      package = (webServer pkgs.hello) == "${pkgs.hello}/bin/web-server";
      path = (webServer "/srv/mws/web-server") == "/srv/mws/web-server";
      directory_of_the_configuration = lib.hasSuffix "/web-server" (webServer ./web-server);
      test_card = (webServer "testcard") == "testcard";
      said_among_the_settings =
        (settings (machine {
          imports = [ fromSettings ];
        })).sessions.web_server == "/srv/mws/web-server"
        && (bare fromSettings).failed == [ ];
    };
    a_restart_keeps_sessions = {
      signal_to_main_alone = (service worker "hydraneckwebrtc").KillMode == "process";
      own_cgroup = (service worker "hydraneckwebrtc").Delegate;
      one_step = !(unit worker "hydraneckwebrtc").stopIfChanged;
      not_in_private_tmp = lib.hasPrefix "/var/lib/" (settings worker).sessions.dir;
    };
    a_service_that_hangs_or_crashes_comes_back = {
      watchdog =
        (service worker "hydraneckwebrtc").WatchdogSec == 30
        && (service worker "hydraneckwebrtc").Type == "notify";
      restart = (service worker "hydraneckwebrtc").Restart == "on-failure";
      but_not_with_a_missing_secret = lib.elem "CREDENTIALS" (service worker "hydraneckwebrtc")
      .RestartPreventExitStatus;
    };
    every_part_can_be_set = {
      more_secrets = lib.elem "nps-token:/run/keys/nps" (service full "hydraneckwebrtc").LoadCredential;
      turns = lib.elem "turns:203.0.113.20:5349?transport=tcp" (settings full).turn.urls;
      coturn_reads_its_key = lib.elem "tls-key:/var/lib/acme/w/key.pem" (service full "coturn")
      .LoadCredential;
      networks_of_peers = (settings full).bodies.allowed_networks == [ "10.10.100.6/32" ];
      tunnel_first = lib.elem "wireguard-wg0.service" (unit full "hydraneckwebrtc").after;
      tunnel_is_no_requirement =
        !(lib.elem "wireguard-wg0.service" (unit full "hydraneckwebrtc").requires);
      key_is_generated = full.checked.networking.wireguard.interfaces.wg0.generatePrivateKeyFile;
      no_warning = full.checked.warnings == [ ];
      firewall =
        full.checked.networking.firewall.allowedTCPPorts == [
          47990
          3478
          5349
        ]
        && lib.elem 51820 full.checked.networking.firewall.allowedUDPPorts;
    };
    ports_are_opened_for_what_comes_from_outside = {
      relayed_media_stays_inside =
        full.checked.networking.firewall.allowedUDPPortRanges == [
          {
            from = 49152;
            to = 49152 + 4 * 20 - 1;
          }
        ];
      direct_media =
        direct.checked.networking.firewall.allowedUDPPortRanges == [
          {
            from = 40000;
            to = 40000 + 4 * 20 - 1;
          }
          {
            from = 39000;
            to = 39003;
          }
        ];
      port_in_base_ten = direct.checked.networking.firewall.allowedTCPPorts == [ 8090 ];
      media_of_another_machine =
        relayElsewhere.checked.networking.firewall.allowedUDPPortRanges == [
          {
            from = 40000;
            to = 40000 + 15 * 20 - 1;
          }
        ];
      loopback_needs_none = relayElsewhere.checked.networking.firewall.allowedTCPPorts == [ ];
      a_name_means_https =
        named.checked.networking.firewall.allowedTCPPorts == [
          80
          443
        ]
        && (service named "hydraneckwebrtc").AmbientCapabilities == "CAP_NET_BIND_SERVICE";
    };
    the_relay_has_room_for_every_session = {
      for_one = lib.hasInfix "user-quota=20\n" (coturn full).extraConfig;
      for_all = lib.hasInfix "total-quota=${toString (4 * 20)}\n" (coturn full).extraConfig;
      and_ports = (coturn full).max-port - (coturn full).min-port + 1 == 4 * 20;
    };
    a_relay_may_be_a_machine_of_its_own = {
      without_our_services = lib.all (
        name: !(lib.hasPrefix "hydraneckwebrtc" name) || name == "hydraneckwebrtc-addresses"
      ) (lib.attrNames relayAlone.checked.systemd.services);
      one_secret =
        (service relayAlone "coturn").LoadCredential == [ "turn-secret:/run/keys/turn" ]
        && lib.elem "turn-secret:/run/keys/turn" (service relayElsewhere "hydraneckwebrtc").LoadCredential;
      allows_the_worker_alone = lib.hasInfix "allowed-peer-ip=203.0.113.20\n" (coturn relayAlone)
      .extraConfig;
      no_relay_beside_the_worker = !(relayElsewhere.checked.systemd.services ? coturn);
    };
    a_new_relay_is_one_step = {
      without_a_gap = !(unit worker "coturn").stopIfChanged;
      older_units_can_write = (service worker "coturn").ReadWritePaths == [ "-/run/coturn" ];
    };
    an_existing_tunnel_is_used = {
      its_unit = lib.elem "wg-quick-wg7.service" (unit existingTunnel "hydraneckwebrtc").after;
      nothing_is_declared = existingTunnel.checked.networking.wireguard.interfaces == { };
    };
    a_tunnel_may_be_set_up_by_networkd = {
      no_unit_to_wait_for =
        !(says "wireguard-" (unit networkd "hydraneckwebrtc").after)
        && !(networkd.checked.systemd.services ? wireguard-wg0);
      key_is_given = !networkd.checked.networking.wireguard.interfaces.wg0.generatePrivateKeyFile;
    };
    a_relay_may_listen_below_port_1024 = {
      # Whatever the stock unit's sandbox says.
      no_user_namespace = !(service lowRelay "coturn").PrivateUsers;
      one_capability = (service lowRelay "coturn").CapabilityBoundingSet == [ "CAP_NET_BIND_SERVICE" ];
      otherwise_one = (service worker "coturn").PrivateUsers;
    };
    a_static_turn_user_is_possible = {
      coturn_side = (coturn static).lt-cred-mech && !(coturn static).use-auth-secret;
      worker_side = (lib.head (settings static).ice_servers).credential_file == "turn-password";
      password_is_a_credential =
        (service static "coturn").LoadCredential == [ "turn-password:/run/keys/turn" ];
    };
    the_relay_denies_by_default = {
      denies_all = lib.hasInfix "denied-peer-ip=0.0.0.0-255.255.255.255" (coturn worker).extraConfig;
      denies_ipv6 = lib.hasInfix "denied-peer-ip=::-ffff:" (coturn worker).extraConfig;
      no_tcp_relay = (coturn worker).no-tcp-relay;
      no_cli = (coturn worker).no-cli;
      has_a_sandbox = (service worker "coturn").ProtectSystem == "strict";
    };
    certificates_come_from_where_they_should = {
      built_in =
        (settingsOf "controller" colocated).server.domain == "neck.example.com"
        && !((settingsOf "controller" colocated).server ? tls);
      security_acme =
        (settingsOf "controller" nixosCertificates).server.tls == {
          certificate = "/var/lib/acme/example.com/fullchain.pem";
          private_key = "/var/lib/acme/example.com/key.pem";
        };
      read_by_group =
        (service nixosCertificates "hydraneckwebrtc-controller").SupplementaryGroups == [ "acme" ]
        && (service nixosCertificates "coturn").SupplementaryGroups == [ "acme" ];
      no_copy_that_grows_old =
        !(says "tls-" (service nixosCertificates "hydraneckwebrtc-controller").LoadCredential)
        && !(says "tls-" (service nixosCertificates "coturn").LoadCredential);
      after_the_first_certificate =
        lib.elem "acme-example.com.service" (unit nixosCertificates "hydraneckwebrtc-controller").after
        && lib.elem "acme-example.com.service" (unit nixosCertificates "hydraneckwebrtc-controller").wants
        && lib.elem "acme-example.com.service" (unit nixosCertificates "coturn").after;
      renewal =
        lib.sort (a: b: a < b) nixosCertificates.checked.security.acme.certs."example.com".reloadServices
        == [
          "coturn.service"
          "hydraneckwebrtc-controller.service"
        ];
      reload_is_no_restart =
        lib.hasSuffix "-HUP $MAINPID" (service nixosCertificates "hydraneckwebrtc-controller").ExecReload
        && lib.hasSuffix "-USR2 $MAINPID" (service nixosCertificates "coturn").ExecReload;
      relay_speaks_tls =
        (coturn nixosCertificates).pkey == "/var/lib/acme/example.com/key.pem"
        && !(coturn nixosCertificates).no-tls
        && lib.elem "turns:neck.example.com:5349?transport=tcp" (settings nixosCertificates).turn.urls;
      proxy =
        behindProxy.config.services.hydraneckwebrtc.controller.settings.server.listen == "127.0.0.1:8080"
        &&
          behindProxy.config.services.hydraneckwebrtc.controller.settings.server.public_url
          == "https://neck.example.com";
      proxy_needs_no_capability = (service behindProxy "hydraneckwebrtc-controller").PrivateUsers;
    };
  };
in
lib.mapAttrs (_: facts: lib.attrNames (lib.filterAttrs (_: holds: !holds) facts)) cases
