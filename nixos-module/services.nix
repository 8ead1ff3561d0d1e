# Units, configuration files and secrets of controller and worker.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkIf mkMerge;
  cfg = config.services.hydraneckwebrtc;
  inherit (cfg) controller worker;
  units = import ./units.nix;
  yaml = pkgs.formats.yaml { };
  colocated = controller.enable && worker.enable;

  generated = name: "${units.secretsDirectory}/${name}";
  either = file: fallback: if file != null then toString file else fallback;
  controllerToken = either controller.adminTokenFile (generated "admin-token");
  workerControllerToken =
    if worker.controllerTokenFile != null then
      toString worker.controllerTokenFile
    else if controller.enable then
      controllerToken
    else
      null;

  # name -> path, as the service sees and as root reads it
  controllerSecrets = {
    admin-token = controllerToken;
  }
  // lib.optionalAttrs (controller.etcd.passwordFile != null) {
    etcd-password = toString controller.etcd.passwordFile;
  }
  // lib.mapAttrs (_: toString) controller.credentials;
  workerSecrets =
    lib.filterAttrs (_: path: path != null) {
      admin-token = either worker.adminTokenFile workerControllerToken;
      controller-token = workerControllerToken;
      sunshine-password = either worker.sunshinePasswordFile null;
      turn-secret = if usesTurnSecret then either cfg.turn.secretFile (generated "turn-secret") else null;
      turn-password = if usesTurnUser then toString cfg.turn.staticUser.passwordFile else null;
      worker-id = if worker.id == null then generated "worker-id" else null;
    }
    // lib.mapAttrs (_: toString) worker.credentials;

  usesNixosCertificates = controller.domain != null && controller.tls == "security.acme";
  certificate = config.security.acme.certs.${controller.acmeHost};
  acmeUnit = "acme-${controller.acmeHost}.service";
  usesTurnUser = cfg.turn.enable && cfg.turn.staticUser != null;
  usesTurnSecret = cfg.turn.enable && cfg.turn.staticUser == null;

  # LoadCredential= lines in a stable order.
  credentialsOf = secrets: lib.mapAttrsToList (name: path: "${name}:${path}") secrets;
  isGenerated = lib.hasPrefix "${units.secretsDirectory}/";
  generatedNames = secrets: map baseNameOf (lib.filter isGenerated (lib.attrValues secrets));
  allGenerated = lib.unique (
    lib.optionals controller.enable (generatedNames controllerSecrets)
    ++ lib.optionals worker.enable (generatedNames workerSecrets)
    ++ lib.optional (usesTurnSecret && cfg.turn.secretFile == null) "turn-secret"
  );

  # Keys that are not set are left out of the file, and sections that are empty then. A package is
  # a path there, not a section.
  prune =
    value:
    if lib.isAttrs value && !lib.isDerivation value then
      lib.filterAttrs (_: v: v != null && v != { }) (lib.mapAttrs (_: prune) value)
    else
      value;

  # The configuration file, refused at build time when the program would refuse it at start.
  # Secrets are not there then: each has an empty place in a directory like systemd's.
  configFile =
    role: settings: secrets: more:
    let
      name = "hydraneckwebrtc-${role}.yaml";
      file = yaml.generate name (prune settings);
    in
    if !cfg.checkConfig then
      file
    else
      pkgs.runCommand name { } ''
        mkdir credentials
        for name in ${toString (lib.attrNames secrets)}; do echo checked-at-build > credentials/$name; done
        chmod -R go= credentials
        export CREDENTIALS_DIRECTORY=$PWD/credentials HOME=$PWD
        sed -e 's/@worker-id@/worker/g' -e 's/@address@/192.0.2.1/g' ${file} > checked.yaml
        if ! ${lib.getExe cfg.package} --config checked.yaml config check; then
          echo "services.hydraneckwebrtc.${role}.settings is not a valid configuration, see above" >&2
          exit 1
        fi
        ${more}
        cp ${file} $out
      '';

  controllerFile = configFile "controller" controller.settings controllerSecrets "";
  workerFile = configFile "worker" worker.settings workerSecrets wholeProgram;

  streamProgram =
    let
      program = worker.streamProgram;
    in
    if lib.isDerivation program then
      lib.getExe' program "web-server"
    else if builtins.isPath program then
      # The directory as a whole, with what lies beside the program.
      "${dirOf program}/${baseNameOf program}"
    else
      program;

  # A program in the store is looked at when the system is built, any other by the worker.
  wholeProgram =
    let
      program = toString (worker.settings.sessions.web_server or "");
    in
    lib.optionalString (lib.hasPrefix builtins.storeDir program) ''
      program=${program}
      resolved=$(realpath -m "$program")
      for part in "''${program##*/}" streamer static; do
        if ! [ -e "''${program%/*}/$part" ] && ! [ -e "''${resolved%/*}/$part" ]; then
          echo "services.hydraneckwebrtc.worker.streamProgram: no $part at $program: it needs web-server, streamer and static of one release in one directory, see docs/stream-program.md" >&2
          exit 1
        fi
      done
    '';

  # What is only known on the machine is filled in when the worker starts.
  startWorker = pkgs.writeShellScript "hydraneckwebrtc-worker" ''
    set -eu
    text=$(< ${workerFile})
    text=''${text//@address@/$(< ${units.addressesDirectory}/address)}
    ${lib.optionalString (worker.id == null) ''
      text=''${text//@worker-id@/$(< "$CREDENTIALS_DIRECTORY/worker-id")}
    ''}
    printf '%s\n' "$text" > "$RUNTIME_DIRECTORY/config.yaml"
    exec ${lib.getExe cfg.package} --config "$RUNTIME_DIRECTORY/config.yaml" worker
  '';

  fromPlain = unit: unit // { wantedBy = [ "multi-user.target" ]; };

  kill = "${pkgs.coreutils}/bin/kill";

  # Where a role is served, as the program reads its settings.
  portsOf =
    { server, ... }:
    if server.domain != null then
      [
        80
        443
      ]
    else
      lib.optional (server.listen != null) (
        # In base ten even with a leading zero, which toInt refuses.
        lib.toIntBase10 (lib.last (lib.splitString ":" server.listen))
      );
  # 0 where the role is served nowhere, which an assertion refuses.
  portOf = settings: lib.head (portsOf settings ++ [ 0 ]);
  listensLow = settings: lib.any (port: port < 1024) (portsOf settings);
  isLoopback =
    { server, ... }:
    server.domain == null
    && server.listen != null
    && lib.any (prefix: lib.hasPrefix prefix server.listen) [
      "127."
      "[::1]:"
      "localhost:"
    ];
  openPorts = settings: lib.optionals (!isLoopback settings) (portsOf settings);

  range = from: count: {
    inherit from;
    to = from + count - 1;
  };
  mediaPorts =
    let
      inherit (worker.settings) mic sessions;
    in
    [
      (range sessions.webrtc_port_start (sessions.max * sessions.webrtc_ports))
    ]
    ++ lib.optional (mic.enabled or true) (range mic.port_start mic.max);
  # Media that a relay on this machine hands over arrives by loopback.
  mediaComesFromOutside = !cfg.turn.enable || !worker.settings.sessions.relay_only;

  secretFiles =
    lib.optionals controller.enable (
      lib.mapAttrsToList (name: path: {
        inherit name path;
        option = "controller (${name})";
      }) controllerSecrets
    )
    ++ lib.optionals worker.enable (
      lib.mapAttrsToList (name: path: {
        inherit name path;
        option = "worker (${name})";
      }) workerSecrets
    );

  # Keys of the configuration file that hold a secret in clear.
  clearSecrets = [
    [
      "server"
      "admin_token"
    ]
    [
      "controller"
      "token"
    ]
    [
      "store"
      "etcd"
      "password"
    ]
    [
      "sunshine"
      "password"
    ]
    [
      "nps"
      "token"
    ]
    [
      "experience_library"
      "token"
    ]
    [
      "turn"
      "secret"
    ]
  ];
  soundSettings =
    role: settings:
    [
      {
        assertion = portsOf settings != [ ];
        message = ''
          services.hydraneckwebrtc.${role}.settings.server has neither listen nor domain.
          Set listen, for example to ":8080", or domain.
        '';
      }
      {
        assertion = !(lib.hasPrefix builtins.storeDir (toString (settings.server.tls.private_key or "")));
        message = ''
          services.hydraneckwebrtc.${role}.settings.server.tls.private_key lies in the Nix store, where every user can read it.
          Name a file outside of it as a string, for example "/var/lib/acme/neck.example.com/key.pem".
        '';
      }
    ]
    ++ map (path: {
      assertion = lib.attrByPath path null settings == null;
      message = ''
        services.hydraneckwebrtc.${role}.settings.${lib.concatStringsSep "." path} would be readable by every user in the Nix store.
        Put the secret into a file, name the file in services.hydraneckwebrtc.${role}.credentials, and set ${lib.last path}_file to that name.
      '';
    }) clearSecrets
    ++ [
      {
        assertion = !lib.any (server: server ? credential) (settings.ice_servers or [ ]);
        message = ''
          services.hydraneckwebrtc.${role}.settings.ice_servers has a credential, which would be readable by every user in the Nix store.
          Put it into a file, name the file in services.hydraneckwebrtc.${role}.credentials, and set credential_file to that name.
        '';
      }
    ];
in
{
  config = mkMerge [
    (mkIf (controller.enable || worker.enable) {
      environment.systemPackages = [ cfg.package ];

      assertions = map (secret: {
        assertion = !(lib.hasPrefix builtins.storeDir secret.path);
        message = ''
          services.hydraneckwebrtc.${secret.option}: the secret file ${secret.path} lies in the Nix store, where every user can read it.
          Name a file outside of it as a string, for example "/run/keys/${secret.name}".
        '';
      }) secretFiles;
    })

    (mkIf (allGenerated != [ ]) {
      systemd.services.hydraneckwebrtc-secrets = units.secrets {
        exec = pkgs.writeShellScript "hydraneckwebrtc-secrets" (
          builtins.readFile ../systemd/hydraneckwebrtc-secrets
        );
        names = allGenerated;
      };
    })

    (mkIf (worker.enable || cfg.turn.enable) {
      systemd.services.hydraneckwebrtc-addresses =
        units.addresses {
          exec = pkgs.writeShellScript "hydraneckwebrtc-addresses" (
            builtins.readFile ../systemd/hydraneckwebrtc-addresses
          );
          tunnels = [ cfg.wireguard.interface ];
        }
        // {
          path = [ pkgs.iproute2 ];
        };
    })

    (mkIf controller.enable {
      assertions = [
        {
          assertion = controller.tls != "security.acme" || controller.domain != null;
          message = ''
            services.hydraneckwebrtc.controller.tls is "security.acme", and there is no domain to serve.
            Set services.hydraneckwebrtc.controller.domain.
          '';
        }
      ]
      ++ soundSettings "controller" controller.settings;

      services.hydraneckwebrtc.controller.settings = {
        mode = mkDefault "controller";
        district = mkIf (cfg.district != null) (mkDefault cfg.district);
        # The package comes from the store; the program must not replace itself.
        update.enabled = mkDefault false;
        store = mkIf (controller.etcd.endpoints != [ ]) {
          etcd = {
            endpoints = mkDefault controller.etcd.endpoints;
            username = mkIf (controller.etcd.username != null) (mkDefault controller.etcd.username);
            password_file = mkIf (controller.etcd.passwordFile != null) (mkDefault "etcd-password");
          };
        };
        server = mkMerge [
          { admin_token_file = mkDefault "admin-token"; }
          (mkIf (controller.domain != null && controller.tls == "proxy") {
            public_url = mkDefault "https://${controller.domain}";
          })
          (mkIf (controller.acmeContact != null && controller.tls == "built-in") {
            acme.contact = mkDefault controller.acmeContact;
          })
          (mkIf usesNixosCertificates {
            tls.certificate = mkDefault "${certificate.directory}/fullchain.pem";
            tls.private_key = mkDefault "${certificate.directory}/key.pem";
          })
        ];
      };

      systemd.services.hydraneckwebrtc-controller = mkMerge [
        (fromPlain (
          units.controller {
            exec = "${lib.getExe cfg.package} --config ${controllerFile} controller";
            credentials = credentialsOf controllerSecrets;
            inherit kill;
            lowPorts = listensLow controller.settings;
            needsSecrets = lib.any isGenerated (lib.attrValues controllerSecrets);
          }
        ))
        (mkIf usesNixosCertificates {
          # The unit leaves a certificate behind, at worst a self-signed one, also when the
          # authority is away (before NixOS 25.11 by way of acme-selfsigned-<name>.service).
          after = [ acmeUnit ];
          wants = [ acmeUnit ];
          # Read where it is renewed, not from a credential, which stays as it was at start.
          serviceConfig.SupplementaryGroups = [ certificate.group ];
        })
      ];

      security.acme.certs = mkIf usesNixosCertificates {
        ${controller.acmeHost}.reloadServices = [ "hydraneckwebrtc-controller.service" ];
      };

      networking.firewall.allowedTCPPorts = mkIf controller.openFirewall (openPorts controller.settings);
    })

    (mkIf worker.enable {
      assertions = [
        {
          assertion = (worker.settings.sessions.web_server or null) != null;
          message = ''
            services.hydraneckwebrtc.worker.streamProgram is not set, and a worker has nothing to stream with.
            Set it to a package with bin/web-server, or to the path of web-server, for example "/opt/moonlight-web-stream/web-server"; streamer and static of the same release must lie beside it. The tested versions are in docs/stream-program.md.
            For a trial set it to "testcard", and services.hydraneckwebrtc.package to hydraneckwebrtc-demo.
          '';
        }
        {
          assertion =
            (worker.settings.sessions.web_server or null) != "testcard" || (cfg.package.withDemo or true);
          message = ''
            services.hydraneckwebrtc.worker.streamProgram is "testcard", which the package ${
              cfg.package.pname or cfg.package.name
            } does not have.
            Set services.hydraneckwebrtc.package to hydraneckwebrtc-demo, of the flake's packages or of its overlay, or streamProgram to moonlight-web-stream's web-server (docs/stream-program.md).
          '';
        }
        {
          assertion = worker.controllerUrl != null;
          message = ''
            services.hydraneckwebrtc.worker.controllerUrl is not set, and this machine runs no controller.
            Set it to the controller's address, for example "https://neck.example.com".
          '';
        }
        {
          assertion = workerControllerToken != null;
          message = ''
            services.hydraneckwebrtc.worker.controllerTokenFile is not set, and this machine runs no controller whose token could be used.
            Copy the controller's admin token to a file on this machine and name it there.
          '';
        }
        {
          assertion =
            !colocated || lib.intersectLists (portsOf controller.settings) (portsOf worker.settings) == [ ];
          message = ''
            services.hydraneckwebrtc: controller and worker both listen on port ${toString (portOf worker.settings)}.
            Give one of them another settings.server.listen.
          '';
        }
      ]
      ++ soundSettings "worker" worker.settings;

      services.hydraneckwebrtc.worker.settings = {
        mode = mkDefault "worker";
        district = mkIf (cfg.district != null) (mkDefault cfg.district);
        update.enabled = mkDefault false;
        server.admin_token_file = mkDefault "admin-token";
        controller = {
          url = mkDefault worker.controllerUrl;
          token_file = mkDefault "controller-token";
        };
        worker = {
          state_dir = mkDefault units.stateDirectory;
          id = mkDefault (if worker.id == null then "@worker-id@" else worker.id);
          url = mkDefault (
            if worker.url != null then
              worker.url
            else if controller.enable then
              "http://127.0.0.1:${toString (portOf worker.settings)}"
            else
              null # the program takes the machine's address on the way to the controller
          );
        };
        sessions = {
          web_server = mkIf (worker.streamProgram != null) (mkDefault streamProgram);
          # Not the private /tmp: sessions outlive a restart of the worker.
          dir = mkDefault "${units.stateDirectory}/workspaces";
        };
        sunshine = mkIf (worker.sunshinePasswordFile != null) {
          username = mkDefault worker.sunshineUser;
          password_file = mkDefault "sunshine-password";
        };
      };

      systemd.services.hydraneckwebrtc = mkMerge [
        (fromPlain (
          units.worker {
            exec = toString startWorker;
            credentials = credentialsOf workerSecrets;
            inherit kill;
            lowPorts = listensLow worker.settings;
            needsAddresses = true;
            needsSecrets = lib.any isGenerated (lib.attrValues workerSecrets);
            tunnelUnits = lib.optional (cfg.wireguard.unit != null) cfg.wireguard.unit;
          }
        ))
        {
          # Restart in one step: stop and start would clean up between the two.
          stopIfChanged = false;
          after = lib.optional controller.enable "hydraneckwebrtc-controller.service";
        }
      ];

      networking.firewall = mkIf worker.openFirewall {
        allowedTCPPorts = openPorts worker.settings;
        allowedUDPPortRanges = mkIf mediaComesFromOutside mediaPorts;
      };
    })
  ];
}
