# What must not evaluate: each case with the words that its error must say.
let
  inherit (import ./machine.nix)
    bare
    machine
    machineWith
    pkgs
    ;
  package = pkgs.callPackage ../../../nixos-module/package.nix;
  worker = more: {
    services.hydraneckwebrtc = {
      worker.enable = true;
      worker.controllerUrl = "https://neck.example.com";
      worker.controllerTokenFile = "/run/keys/neck";
    };
    imports = [ { services.hydraneckwebrtc = more; } ];
  };
  case = says: more: {
    inherit says;
    value = (machine (worker more)).checked.systemd.services;
  };
in
{
  an_unknown_option = case [ "worker.adminToken" "does not exist" ] { worker.adminToken = "x"; };
  a_wrong_type = case [ "turn.port" "not of type" ] { turn.port = "3478"; };
  a_value_out_of_range = case [ "sessions.max" "between 1 and 1000" ] {
    worker.settings.sessions.max = 0;
  };
  a_secret_in_the_store = case [ "worker (sunshine-password)" "lies in the Nix store" "/run/keys/" ] {
    worker.sunshinePasswordFile = "${builtins.toFile "password" "hunter2"}";
  };
  a_turn_secret_in_the_store = case [ "turn" "lies in the Nix store" ] {
    turn.secretFile = "${builtins.toFile "secret" "hunter2"}";
  };
  a_tunnel_key_in_the_store = case [ "wireguard.privateKeyFile lies in the Nix store" ] {
    wireguard.enable = true;
    wireguard.addresses = [ "10.10.0.2/16" ];
    wireguard.privateKeyFile = "${builtins.toFile "key" "hunter2"}";
  };
  a_secret_among_the_settings =
    case [ "settings.sunshine.password" "readable by every user" "password_file" ]
      {
        worker.settings.sunshine.password = "hunter2";
      };
  a_relay_password_among_the_settings = case [ "ice_servers has a credential" "credential_file" ] {
    worker.settings.ice_servers = [
      {
        urls = [ "turn:relay.example.com" ];
        username = "u";
        credential = "hunter2";
      }
    ];
  };
  a_missing_secret = {
    says = [ "worker.controllerTokenFile is not set" ];
    value =
      (machine {
        services.hydraneckwebrtc.worker.enable = true;
        services.hydraneckwebrtc.worker.controllerUrl = "https://neck.example.com";
      }).checked.systemd.services;
  };
  a_worker_without_a_controller = {
    says = [ "worker.controllerUrl is not set" ];
    value =
      (machine {
        services.hydraneckwebrtc.worker.enable = true;
        services.hydraneckwebrtc.worker.controllerTokenFile = "/run/keys/neck";
      }).checked.systemd.services;
  };
  a_worker_without_a_stream_program = {
    says = [
      "worker.streamProgram is not set"
      "web-server"
      "streamer and static"
      "docs/stream-program.md"
      "testcard"
    ];
    value = (bare (worker { })).checked.systemd.services;
  };
  a_stream_program_that_is_no_path = case [ "worker.streamProgram" "not of type" ] {
    worker.streamProgram = "web-server";
  };
  a_test_card_without_the_demo =
    case [ "\"testcard\", which the package hydraneckwebrtc does not have" "hydraneckwebrtc-demo" ]
      {
        package = package { };
        worker.streamProgram = "testcard";
      };
  two_services_on_one_port = {
    says = [ "both listen on port 8080" ];
    value =
      (machine {
        services.hydraneckwebrtc.controller.enable = true;
        services.hydraneckwebrtc.worker.enable = true;
        services.hydraneckwebrtc.worker.settings.server.listen = ":8080";
      }).checked.systemd.services;
  };
  an_old_coturn = {
    says = [
      "coturn 4.6.1 is older than 4.9.0"
      "CVE-2026-27624"
      "acceptOldCoturn"
    ];
    value =
      (machineWith { coturn = "4.6.1"; } (worker {
        worker.streamProgram = "testcard";
      })).checked.systemd.services;
  };
  a_tunnel_without_an_address = case [ "wireguard.addresses is empty" ] { wireguard.enable = true; };
  a_pre_shared_key_in_the_store = case [ "presharedKeyFile lies in the Nix store" ] {
    wireguard.enable = true;
    wireguard.addresses = [ "10.10.0.2/16" ];
    wireguard.peers = [
      {
        publicKey = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        allowedIPs = [ "10.10.100.6/32" ];
        presharedKeyFile = "${builtins.toFile "key" "hunter2"}";
      }
    ];
  };
  a_certificate_key_in_the_store = case [ "tls.private_key lies in the Nix store" ] {
    worker.settings.server.tls.private_key = "${builtins.toFile "key" "hunter2"}";
  };
  an_address_without_a_port = case [ "settings.server.listen" "string matching" ] {
    worker.settings.server.listen = "127.0.0.1";
  };
  nowhere_to_listen = case [ "neither listen nor domain" ":8080" ] {
    worker.settings.server.listen = null;
  };
  a_source_of_certificates_that_is_none = case [ "controller.tls" "one of" ] {
    controller.enable = true;
    controller.tls = "letsencrypt";
  };
  a_certificate_for_no_name = case [ "there is no domain to serve" "controller.domain" ] {
    controller.enable = true;
    controller.tls = "security.acme";
  };
  two_certificates_for_the_relay = case [ "both tls and acmeHost are set" ] {
    turn.acmeHost = "example.com";
    turn.tls.certificateFile = "/run/keys/cert.pem";
    turn.tls.keyFile = "/run/keys/key.pem";
  };
  a_relay_without_its_certificate_file = case [ "turn.tls.keyFile" "not defined" ] {
    turn.tls.certificateFile = "/run/keys/cert.pem";
  };
  a_generated_tunnel_key_with_networkd = {
    says = [ "wireguard.privateKeyFile is not set, and networkd" ];
    value =
      (machine {
        imports = [
          (worker {
            wireguard.enable = true;
            wireguard.addresses = [ "10.10.0.2/16" ];
          })
        ];
        networking.useNetworkd = true;
      }).checked.systemd.services;
  };
  an_interface_name_too_long = case [ "wireguard.interface" "string matching" ] {
    wireguard.enable = true;
    wireguard.interface = "a-name-of-more-than-15";
  };
  a_secret_that_is_no_path = case [ "worker.adminTokenFile" "absolute path" ] {
    worker.adminTokenFile = "hunter2";
  };
  too_few_relay_ports = case [ "too few for 15 sessions" ] {
    turn.minPort = 65530;
  };
}
