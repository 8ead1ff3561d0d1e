# What can be set of controller and worker. turn.nix and wireguard.nix declare their own options.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    mkPackageOption
    types
    ;
  cfg = config.services.hydraneckwebrtc;
  yaml = pkgs.formats.yaml { };

  # A secret is named by its path on the target machine and never copied to the store.
  secretFile =
    text:
    mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/keys/hydraneckwebrtc";
      description = text;
    };

  credentials = mkOption {
    type = types.attrsOf types.path;
    default = { };
    example = literalExpression ''{ nps-token = "/run/keys/nps-token"; }'';
    description = ''
      More secret files of this service, by name. The service finds each under that name, so a
      `*_file` key in `settings` is given the name alone, for example
      `settings.nps.token_file = "nps-token"`. systemd reads the files as root; their owner and
      mode do not matter to the service.
    '';
  };

  openFirewall =
    what:
    mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open ${what} in the firewall.";
    };

  settings =
    options: text:
    mkOption {
      type = types.submodule {
        freeformType = yaml.type;
        inherit options;
      };
      default = { };
      description = ''
        ${text} Any key of the program's configuration file may be set; see
        `hydraneckwebrtc config reference`. The result is checked when the system is built. Secrets
        do not belong here: the file is readable by every user.
      '';
    };

  listen =
    default: defaultText:
    mkOption {
      type = types.nullOr (types.strMatching ".*:[0-9]{1,5}");
      inherit default;
      defaultText = literalExpression defaultText;
      example = "127.0.0.1:8080";
      description = ''
        Address and port of plain HTTP, `:port` for every address. `null` leaves it to
        `server.domain`.
      '';
    };
in
{
  options.services.hydraneckwebrtc = {
    package = mkPackageOption pkgs "hydraneckwebrtc" {
      extraDescription = "The flake's module sets its own build.";
    };

    district = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "bxl1";
      description = "District of this machine, shown in health, records and metrics.";
    };

    checkConfig = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = literalExpression "whether the building machine can run the package";
      description = "Whether `hydraneckwebrtc config check` must pass for the system to build.";
    };

    controller = {
      enable = mkEnableOption "the controller, which routes sessions to workers";

      domain = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "neck.example.com";
        description = ''
          Public name of the controller. With it the controller serves HTTPS on ports 80 and 443
          (see `tls`); without it, plain HTTP on port 8080.
        '';
      };

      tls = mkOption {
        type = types.enum [
          "built-in"
          "security.acme"
          "proxy"
        ];
        default = "built-in";
        description = ''
          Where the certificate of `domain` comes from: `built-in` (the program's own ACME client,
          TLS-ALPN-01 on port 443), `security.acme` (the certificate `acmeHost` of
          {option}`security.acme.certs`, whose challenge you choose there; a renewed one is served
          without a restart), or `proxy` (a reverse proxy of yours terminates TLS; the controller
          serves plain HTTP on 127.0.0.1:8080).
        '';
      };

      acmeHost = mkOption {
        type = types.nullOr types.str;
        default = cfg.controller.domain;
        defaultText = literalExpression "controller.domain";
        example = "example.com";
        description = ''
          With `tls = "security.acme"`: name of the certificate in {option}`security.acme.certs`,
          where that is not `domain`, as with one for several names.
        '';
      };

      acmeContact = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "ops@example.com";
        description = "Mail address that the built-in ACME client gives to the certificate authority.";
      };

      adminTokenFile = secretFile ''
        File with the controller's admin token. `null` generates one, once, into
        {file}`/var/lib/hydraneckwebrtc-secrets/admin-token`.
      '';

      etcd = {
        endpoints = mkOption {
          type = types.listOf types.str;
          default = [ ];
          example = [ "https://etcd-1.example.com:2379" ];
          description = ''
            Client URLs of an etcd that several controllers share to serve one fleet; none means
            that this is the fleet's only controller. More of it is set in `settings.store.etcd`.
          '';
        };

        username = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "hydraneckwebrtc";
          description = "User of etcd, when it asks for one.";
        };

        passwordFile = secretFile "File with that user's password.";
      };

      inherit credentials;
      openFirewall = openFirewall "the controller's ports";

      settings = settings {
        server.domain = mkOption {
          type = types.nullOr types.str;
          default = if cfg.controller.tls == "proxy" then null else cfg.controller.domain;
          defaultText = literalExpression ''if tls == "proxy" then null else controller.domain'';
          description = "Name to serve HTTPS for.";
        };
        server.listen = listen (
          if cfg.controller.domain == null then
            ":8080"
          else if cfg.controller.tls == "proxy" then
            "127.0.0.1:8080"
          else
            null
        ) ''":8080"; "127.0.0.1:8080" behind a proxy; null with a domain'';
      } "The controller's configuration.";
    };

    worker = {
      enable = mkEnableOption "the worker, which runs and proxies stream sessions";

      controllerUrl = mkOption {
        type = types.nullOr (types.either types.str (types.listOf types.str));
        default =
          if !cfg.controller.enable then
            null
          else if cfg.controller.domain == null then
            "http://127.0.0.1:8080"
          else
            "https://${cfg.controller.domain}";
        defaultText = literalExpression "the controller of this machine, if there is one";
        example = "https://neck.example.com";
        description = "Where the controller is, or where each of several is that share one fleet.";
      };

      controllerTokenFile = secretFile ''
        File with the controller's admin token. `null` means the token of the controller on this
        machine; a worker on a machine of its own must be given it.
      '';

      adminTokenFile = secretFile ''
        File with the admin token of the worker's own API. `null` means the controller's token.
      '';

      sunshineUser = mkOption {
        type = types.str;
        default = "sunshine";
        description = "User of the bodies' Sunshine, for sessions that bring none.";
      };

      sunshinePasswordFile = secretFile ''
        File with the password of the bodies' Sunshine, for sessions that bring none.
      '';

      id = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "bxl1-worker-3";
        description = ''
          Name of this worker in the fleet. `null` generates one from the host name, once, into
          {file}`/var/lib/hydraneckwebrtc-secrets/worker-id`, so that it survives a renamed machine
          and differs between clones of one image.
        '';
      };

      url = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "http://10.0.1.20:47990";
        description = ''
          Where the controller reaches this worker. `null` means the machine's address on the way
          to the controller, or the loopback address when the controller is on this machine.
        '';
      };

      streamProgram = mkOption {
        type = types.nullOr (
          types.oneOf [
            (types.enum [ "testcard" ])
            types.package
            types.path
          ]
        );
        default = null;
        example = "/opt/moonlight-web-stream/web-server";
        description = ''
          The moonlight-web-stream server that runs for each session: the path of its `web-server`, or
          a package that has it in {file}`bin`. `streamer` and `static` of the same release lie beside
          it, or beside what it is a symlink to; a package without them is refused when the system is
          built. The versions that were tried are in {file}`docs/stream-program.md`. `testcard` is the
          test picture of the package `hydraneckwebrtc-demo`. A worker needs one of them.
        '';
      };

      inherit credentials;
      openFirewall = openFirewall ''
        the worker's API port, for a controller on another machine, and, where media does not come
        from a relay on this machine (`turn.enable` or `settings.sessions.relay_only` is false), the
        UDP ports of streams and microphones'';

      settings = settings {
        server.domain = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "Name to serve HTTPS for, on ports 80 and 443 in place of `listen`.";
        };
        server.listen = listen (
          if cfg.worker.settings.server.domain != null then
            null
          else if cfg.controller.enable then
            "127.0.0.1:8090"
          else
            ":47990"
        ) ''":47990"; "127.0.0.1:8090" beside a controller; null with a domain'';
        sessions.max = mkOption {
          type = types.ints.between 1 1000;
          default = 15;
          description = "Sessions at a time. The TURN relay's port range and quotas follow it.";
        };
        sessions.port_range_start = mkOption {
          type = types.port;
          default = 8100;
          description = "First loopback port of stream processes, one for each session.";
        };
        sessions.relay_only = mkOption {
          type = types.bool;
          default = true;
          description = "Whether browsers use the relay alone, and never a direct way.";
        };
        sessions.webrtc_port_start = mkOption {
          type = types.port;
          default = 40000;
          description = "First UDP port of streams, `webrtc_ports` for each session.";
        };
        sessions.webrtc_ports = mkOption {
          type = types.ints.between 1 1000;
          default = 20;
          description = "UDP ports of each session's stream.";
        };
        mic.max = mkOption {
          type = types.ints.between 1 1000;
          default = cfg.worker.settings.sessions.max;
          defaultText = literalExpression "sessions.max";
          description = "Microphones at a time, a UDP port for each.";
        };
        mic.port_start = mkOption {
          type = types.port;
          default = 39000;
          description = "First UDP port of microphones.";
        };
      } "The worker's configuration.";
    };
  };
}
