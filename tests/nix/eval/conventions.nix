# The conventions of NixOS modules and flakes that this project keeps: each is a list of facts, and
# the answer is the list of those that do not hold.
let
  inherit (import ./machine.nix) lib machine pkgs;
  root = ../../..;
  read = file: builtins.readFile (root + file);
  moduleFiles = lib.filter (lib.hasSuffix ".nix") (
    lib.attrNames (builtins.readDir (root + "/nixos-module"))
  );
  moduleTexts = map (file: read "/nixos-module/${file}") moduleFiles;

  # Every option of the module, those inside of submodules as well.
  inner =
    type:
    if type ? options then
      removeAttrs type.options [ "_module" ]
    else if type ? inner then
      inner type.inner
    else
      { };
  walk =
    path: set:
    lib.concatMap (
      name:
      let
        o = set.${name};
        here = "${path}.${name}";
      in
      if (o._type or "") == "option" then
        [ (o // { inherit here; }) ] ++ walk here (inner o.type)
      else
        walk here o
    ) (lib.attrNames set);
  options = walk "services.hydraneckwebrtc" (machine { }).options.services.hydraneckwebrtc;
  # A default that reads the rest of the configuration cannot be shown as it is.
  ownDefaults = map (o: o.here) (lib.filter (o: o ? default && !(o ? defaultText)) options);
  lazily = o: (builtins.tryEval (builtins.deepSeq o.default true)).success;

  full = machine {
    services.hydraneckwebrtc = {
      controller.enable = true;
      worker.enable = true;
    };
  };
  overridden = machine {
    services.hydraneckwebrtc = {
      controller.enable = true;
      worker.enable = true;
      worker.settings = {
        sessions.max = 3;
        sessions.dir = "/srv/sessions";
        update.enabled = true;
        log.level = "debug";
      };
    };
  };
  settings = overridden.config.services.hydraneckwebrtc.worker.settings;
  services = full.checked.systemd.services;
  ours = [
    "hydraneckwebrtc"
    "hydraneckwebrtc-addresses"
    "hydraneckwebrtc-controller"
    "hydraneckwebrtc-secrets"
  ];
  daemons = [
    "hydraneckwebrtc"
    "hydraneckwebrtc-controller"
  ];
  each = names: holds: lib.all (name: holds services.${name}) names;

  # Sections of the configuration reference, and the keys in them that hold a secret in clear.
  sections = lib.tail (lib.splitString "\n## `" (read "/docs/configuration.md"));
  secretsOf =
    section:
    let
      name = lib.removeSuffix "[]" (lib.head (lib.splitString "`" section));
      rows = lib.filter (line: builtins.match "\\| `[a-z_]+` \\| secret \\|.*" line != null) (
        lib.splitString "\n" section
      );
    in
    map (row: "${name}.${builtins.elemAt (lib.splitString "`" row) 1}") rows;
  documentedSecrets = lib.concatMap secretsOf sections;
  refuses =
    role: path:
    let
      keys = lib.splitString "." path;
      value =
        if lib.head keys == "ice_servers" then
          { ice_servers = [ { credential = "x"; } ]; }
        else
          lib.setAttrByPath keys "x";
      m = machine {
        services.hydraneckwebrtc.controller.enable = true;
        services.hydraneckwebrtc.worker.enable = true;
        imports = [ { services.hydraneckwebrtc.${role}.settings = value; } ];
      };
    in
    lib.any (lib.hasInfix "readable by every user") m.failed;

  flake = import (root + "/flake.nix");
  nixpkgs = (import ../stand-in/flake.nix).outputs { };
  outputs = lib.fix (
    self:
    flake.outputs {
      inherit nixpkgs;
      inherit self;
    }
  );
  systems = [
    "aarch64-linux"
    "x86_64-linux"
  ];
  onEverySystem = set: lib.attrNames set == systems;
  vmTests = map (lib.removeSuffix ".py") (
    lib.filter (lib.hasSuffix ".py") (lib.attrNames (builtins.readDir (root + "/vm-tests")))
  );
  flakeMachine = nixpkgs.lib.nixosSystem {
    modules = [
      outputs.nixosModules.default
      {
        services.hydraneckwebrtc.controller.enable = true;
      }
    ];
  };

  cases = {
    "1 roles have a switch of their own and share a package" = {
      off_by_default =
        (machine { }).checked.systemd.services == {
          firewall = (machine { }).checked.systemd.services.firewall;
        };
      switches =
        lib.all (role: full.options.services.hydraneckwebrtc.${role}.enable.type.description == "boolean")
          [
            "controller"
            "worker"
            "turn"
            "wireguard"
          ];
      package_of_the_flake =
        flakeMachine.config.services.hydraneckwebrtc.package == outputs.packages.x86_64-linux.default;
      package_can_be_replaced =
        (nixpkgs.lib.nixosSystem {
          modules = [
            outputs.nixosModules.default
            { services.hydraneckwebrtc.package = nixpkgs.legacyPackages.x86_64-linux.hello; }
          ];
        }).config.services.hydraneckwebrtc.package.pname == "hello";
    };
    "2 settings are free, with defaults that give way" = {
      unknown_keys_pass = settings.log.level == "debug";
      declared_keys = settings.sessions.max == 3;
      defaults_give_way = settings.sessions.dir == "/srv/sessions" && settings.update.enabled;
      other_defaults_stay = settings.mode == "worker";
      a_package_is_a_path =
        builtins.isString
          (machine {
            services.hydraneckwebrtc.controller.enable = true;
            services.hydraneckwebrtc.worker.enable = true;
            services.hydraneckwebrtc.worker.settings.sessions.web_server = pkgs.hello;
          }).checked.systemd.services.hydraneckwebrtc.serviceConfig.ExecStart;
      the_rest_follows =
        settings.mic.max == 3 && (overridden.checked.services.coturn).max-port == 49152 + 3 * 20 - 1;
    };
    "3 secrets are files that systemd hands over" = {
      every_secret_key_is_refused =
        documentedSecrets != [ ]
        && lib.all (path: refuses "controller" path && refuses "worker" path) documentedSecrets;
      all_that_were_meant = lib.length documentedSecrets >= 7;
      credentials = each daemons (s: s.serviceConfig.LoadCredential != [ ]);
      no_secret_in_the_environment = each ours (s: s.environment == { });
      no_secret_on_the_command_line = each ours (s: !(lib.hasInfix "secrets/" s.serviceConfig.ExecStart));
    };
    "4 the firewall is opened on request" = {
      closed = full.checked.networking.firewall.allowedTCPPorts == [ ];
      closed_to_datagrams = full.checked.networking.firewall.allowedUDPPorts == [ ];
      closed_ranges = full.checked.networking.firewall.allowedUDPPortRanges == [ ];
    };
    "6 units" = {
      own_user = each daemons (s: s.serviceConfig.DynamicUser);
      own_directories = each daemons (s: s.serviceConfig ? StateDirectory);
      tell_when_ready = each daemons (
        s: s.serviceConfig.Type == "notify" && s.serviceConfig.WatchdogSec > 0
      );
      come_back = each daemons (s: s.serviceConfig.Restart == "on-failure");
      but_not_for_ever = each daemons (
        s: s.unitConfig.StartLimitBurst * s.serviceConfig.RestartSec < s.unitConfig.StartLimitIntervalSec
      );
      network_first = each daemons (
        s: lib.elem "network-online.target" s.after && lib.elem "network-online.target" s.wants
      );
      described = each ours (s: s.description != "" && s.documentation != [ ]);
      sandboxed = each ours (
        s:
        lib.all (key: s.serviceConfig.${key} == true) [
          "LockPersonality"
          "MemoryDenyWriteExecute"
          "NoNewPrivileges"
          "PrivateDevices"
          "PrivateTmp"
          "ProtectClock"
          "ProtectControlGroups"
          "ProtectHome"
          "ProtectHostname"
          "ProtectKernelLogs"
          "ProtectKernelModules"
          "ProtectKernelTunables"
          "RestrictNamespaces"
          "RestrictRealtime"
          "RestrictSUIDSGID"
        ]
        && s.serviceConfig.ProtectSystem == "strict"
        && s.serviceConfig.CapabilityBoundingSet == ""
      );
      sessions_outlive_the_worker = services.hydraneckwebrtc.serviceConfig.KillMode == "process";
    };
    "7 options" = {
      described = lib.all (o: (o.description or "") != "") options;
      typed = lib.all (o: o ? type) options;
      sentences = lib.all (o: lib.hasSuffix "." (lib.removeSuffix "\n" o.description)) options;
      defaults_can_be_shown = lib.all (o: lib.elem o.here ownDefaults -> lazily o) options;
      no_with_lib = !(lib.any (lib.hasInfix "with lib") moduleTexts);
      no_throw = !(lib.any (lib.hasInfix "throw ") moduleTexts);
      no_build_while_evaluating = !(lib.any (lib.hasInfix "readFile \${") moduleTexts);
    };
    "8 the flake" = {
      packages =
        onEverySystem outputs.packages
        && lib.all (
          s:
          lib.attrNames outputs.packages.${s} == [
            "default"
            "hydraneckwebrtc"
            "hydraneckwebrtc-demo"
          ]
        ) systems;
      modules =
        lib.attrNames outputs.nixosModules == [
          "default"
          "hydraneckwebrtc"
        ];
      overlay = builtins.isFunction outputs.overlays.default;
      modules_may_be_imported_twice =
        (nixpkgs.lib.nixosSystem {
          modules = [
            outputs.nixosModules.default
            { imports = [ outputs.nixosModules.hydraneckwebrtc ]; }
          ];
        }).config.services.hydraneckwebrtc.package == outputs.packages.x86_64-linux.default;
      checks =
        onEverySystem outputs.checks
        && lib.all (
          s:
          lib.attrNames outputs.checks.${s} == lib.sort (a: b: a < b) (
            [
              "clippy"
              "fmt"
              "package"
              "tests"
            ]
            ++ map (name: "vm-${name}") vmTests
          )
        ) systems;
      shells = lib.all (s: outputs.devShells.${s} ? default) systems;
      formatter = onEverySystem outputs.formatter;
      runs = onEverySystem outputs.apps;
    };
  };
in
lib.mapAttrs (_: facts: lib.attrNames (lib.filterAttrs (_: holds: !holds) facts)) cases
