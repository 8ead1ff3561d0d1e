# Package stand-ins: bin/ of every package is the Debian machine's own tool directory.
{
  lib,
  system ? "x86_64-linux",
}:
let
  binDir = "/usr/lib/stand-in/bin";
  builder = builtins.toFile "builder.sh" ''
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    for i in $inputs; do PATH="$i/bin:$PATH"; done
    eval "$buildCommand"
  '';
  mk =
    a:
    let
      d = derivation (
        removeAttrs a [
          "meta"
          "passthru"
          "nativeBuildInputs"
          "pname"
          "version"
        ]
        // {
          name = a.name or "${a.pname}-${a.version or "0"}";
          inherit system;
          builder = "/bin/bash";
          args = [
            "-e"
            builder
          ];
          inputs = map toString (a.nativeBuildInputs or [ ]);
        }
      );
    in
    d
    // {
      pname = a.pname or a.name;
      version = a.version or "0";
      meta = a.meta or { };
      outputs = [ "out" ];
      overrideAttrs = f: mk (a // f a);
    }
    // (a.passthru or { });
  stub =
    pname:
    mk {
      inherit pname;
      version = { coturn = "4.6.1"; }.${pname} or "0";
      meta.mainProgram =
        {
          coturn = "turnserver";
          iproute2 = "ip";
          wireguard-tools = "wg";
        }
        .${pname} or pname;
      buildCommand = "mkdir -p $out; ln -s ${binDir} $out/bin; ln -s ${binDir} $out/sbin";
    };
  names = [
    "bash"
    "coreutils"
    "coturn"
    "curl"
    "etcd"
    "findutils"
    "chromium"
    "pebble"
    "gnugrep"
    "gnused"
    "iproute2"
    "iptables"
    "jq"
    "kmod"
    "nftables"
    "openssl"
    "systemd"
    "util-linux"
    "wireguard-tools"
    "wireguard-go"
    "procps"
    "iputils"
    "cargo"
    "clippy"
    "rustfmt"
    "rustc"
    "cargo-nextest"
    "nixfmt"
    "deadnix"
    "statix"
    "pkg-config"
    "replace-secret"
    "hello"
    "installShellFiles"
    "python3"
    "nixfmt-tree"
    "cacert"
    "ethtool"
    "netcat"
  ];
  writeTextFile =
    {
      name,
      text,
      executable ? false,
      destination ? "",
      ...
    }:
    mk {
      inherit name text;
      passAsFile = [ "text" ];
      buildCommand = "mkdir -p $(dirname $out${destination}); cp $textPath $out${destination}; ${lib.optionalString executable "chmod +x $out${destination}"}";
    };
  runCommand =
    name: env: buildCommand:
    mk ({ inherit name buildCommand; } // env);
  scalar = lib.types.oneOf [
    lib.types.bool
    lib.types.int
    lib.types.float
    lib.types.str
    lib.types.path
  ];
  json =
    lib.types.nullOr (
      lib.types.oneOf [
        scalar
        (lib.types.attrsOf lib.types.loose)
        (lib.types.listOf lib.types.loose)
      ]
    )
    // {
      merge = lib.types.loose.merge;
      description = "YAML value";
    };
  dump =
    py: name: value:
    mk {
      inherit name;
      value = builtins.toJSON value;
      passAsFile = [ "value" ];
      buildCommand = "python3 -c ${lib.escapeShellArg py} < $valuePath > $out";
    };
in
lib.genAttrs names stub
// {
  inherit
    lib
    system
    runCommand
    writeTextFile
    stub
    ;
  stdenv = {
    mkDerivation = a: mk (if builtins.isFunction a then lib.fix a else a);
    hostPlatform = {
      inherit system;
      isLinux = true;
    };
    buildPlatform = {
      inherit system;
      canExecute = p: p.system == system;
    };
    inherit system;
  };
  callPackage =
    fn: args:
    let
      f = if builtins.isFunction fn then fn else import fn;
    in
    f (
      builtins.intersectAttrs (builtins.functionArgs f) (import ./pkgs.nix { inherit lib system; })
      // args
    );
  writeText = name: text: writeTextFile { inherit name text; };
  writeShellScript =
    name: text:
    writeTextFile {
      inherit name;
      executable = true;
      text = "#!/bin/bash\n${text}";
    };
  writeShellScriptBin =
    name: text:
    writeTextFile {
      inherit name;
      executable = true;
      destination = "/bin/${name}";
      text = "#!/bin/bash\n${text}";
    };
  writeShellApplication =
    {
      name,
      text,
      runtimeInputs ? [ ],
      ...
    }:
    writeTextFile {
      inherit name;
      executable = true;
      destination = "/bin/${name}";
      text = "#!/bin/bash\nset -euo pipefail\nexport PATH=${lib.makeBinPath runtimeInputs}:$PATH\n${text}";
    };
  runtimeShell = "/bin/bash";
  formats = {
    yaml = { }: {
      type = json;
      generate = dump "import json,sys,yaml; yaml.safe_dump(json.load(sys.stdin), sys.stdout, default_flow_style=False, allow_unicode=True)";
    };
    json = { }: {
      type = json;
      generate = dump "import json,sys; json.dump(json.load(sys.stdin), sys.stdout, indent=2)";
    };
  };
  rustPlatform.buildRustPackage =
    a:
    let
      args = if builtins.isFunction a then lib.fix a else a;
      # The programs that cargo built before: one with the demo, one without.
      programs = builtins.getEnv "HYDRANECKWEBRTC_BIN_DIR";
      dir = programs + (if lib.elem "demo" (args.buildFeatures or [ ]) then "/demo" else "/release");
    in
    mk {
      inherit (args) pname version;
      meta = args.meta or { };
      passthru = {
        checkFlags = args.checkFlags or [ ];
        checkInputs = map (package: package.pname) (args.nativeCheckInputs or [ ]);
      }
      // args.passthru or { };
      buildCommand =
        "mkdir -p $out/bin; "
        +
          lib.optionalString (programs != "")
            "cp -r ${
              builtins.path {
                path = dir;
                name = "rust-bin";
              }
            }/. $out/bin/";
    };
  mkShell =
    _:
    mk {
      name = "shell";
      buildCommand = "touch $out";
    };
  testers.runNixOSTest =
    t:
    mk {
      name = "vm-test-run-${t.name}";
      buildCommand = "touch $out";
      passthru = { inherit (t) nodes testScript; };
    };
}
