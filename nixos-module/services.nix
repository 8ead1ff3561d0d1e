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
  // lib.optionalAttrs usesNixosCertificates {
    tls-certificate = "${acmeDirectory}/fullchain.pem";
    tls-key = "${acmeDirectory}/key.pem";
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
  acmeDirectory = config.security.acme.certs.${controller.domain}.directory;
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

  # Keys that are not set are left out of the file, and sections that are empty then.
  prune =
    value:
    if lib.isAttrs value then
      lib.filterAttrs (_: v: v != null && v != { }) (lib.mapAttrs (_: prune) value)
    else
      value;

  # The configuration file, refused at build time when the program would refuse it at start.
  # Secrets are not there then: each has an empty place in a directory like systemd's.
  configFile =
    role: settings: secrets:
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
        cp ${file} $out
      '';

  controllerFile = configFile "controller" controller.settings controllerSecrets;
  workerFile = configFile "worker" worker.settings workerSecrets;

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

  portOf = listen: lib.toInt (lib.last (lib.splitString ":" listen));
  listensLow = listen: listen != null && portOf listen < 1024;

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
  noClearSecrets =
    role: settings:
    map (path: {
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
      systemd.services.hydraneckwebrtc-secrets = fromPlain (
        units.secrets {
          exec = pkgs.writeShellScript "hydraneckwebrtc-secrets" (
            builtins.readFile ../systemd/hydraneckwebrtc-secrets
          );
          names = allGenerated;
        }
      );
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
      assertions = noClearSecrets "controller" controller.settings;

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
            tls.certificate = mkDefault "/run/credentials/hydraneckwebrtc-controller.service/tls-certificate";
            tls.private_key = mkDefault "/run/credentials/hydraneckwebrtc-controller.service/tls-key";
          })
        ];
      };

      systemd.services.hydraneckwebrtc-controller = mkMerge [
        (fromPlain (
          units.controller {
            exec = "${lib.getExe cfg.package} --config ${controllerFile} controller";
            credentials = credentialsOf controllerSecrets;
            lowPorts =
              controller.settings.server.domain != null || listensLow controller.settings.server.listen;
            needsSecrets = lib.any isGenerated (lib.attrValues controllerSecrets);
          }
        ))
        (mkIf usesNixosCertificates {
          after = [ "acme-${controller.domain}.service" ];
          wants = [ "acme-${controller.domain}.service" ];
        })
      ];

      # A renewed certificate is read at start; a restarted controller is whole after one round
      # of heartbeats, and streams do not pass through it.
      security.acme = mkIf usesNixosCertificates {
        certs.${controller.domain}.reloadServices = [ "hydraneckwebrtc-controller.service" ];
      };

      networking.firewall.allowedTCPPorts = mkIf controller.openFirewall (
        if controller.settings.server.domain != null then
          [
            80
            443
          ]
        else
          [ (portOf controller.settings.server.listen) ]
      );
    })

    (mkIf worker.enable {
      assertions = [
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
          assertion = !colocated || controller.settings.server.listen != worker.settings.server.listen;
          message = ''
            services.hydraneckwebrtc: controller and worker both listen on ${toString worker.settings.server.listen}.
            Give one of them another settings.server.listen.
          '';
        }
      ]
      ++ noClearSecrets "worker" worker.settings;

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
              "http://127.0.0.1:${toString (portOf worker.settings.server.listen)}"
            else
              null # the program takes the machine's address on the way to the controller
          );
        };
        sessions = {
          web_server = mkDefault worker.streamProgram;
          # Not the private /tmp: sessions outlive a restart of the worker.
          dir = mkDefault "${units.stateDirectory}/workspaces";
        };
        mic.max = mkDefault worker.settings.sessions.max;
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
            lowPorts = listensLow worker.settings.server.listen;
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

      networking.firewall.allowedTCPPorts = mkIf worker.openFirewall [
        (portOf worker.settings.server.listen)
      ];
    })
  ];
}
