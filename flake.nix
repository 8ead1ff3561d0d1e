{
  description = "The neck between browsers and GPU bodies: supervises, routes and proxies moonlight-web-stream sessions";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});

      # Every vm-tests/<name>.nix that has a script beside it is a test.
      vmTestNames = map (lib.removeSuffix ".py") (
        lib.filter (lib.hasSuffix ".py") (lib.attrNames (builtins.readDir ./vm-tests))
      );
      vmTest =
        pkgs: name:
        pkgs.testers.runNixOSTest (
          import (./vm-tests + "/${name}.nix") {
            # The tests stream the test card from a double of a body.
            module = {
              imports = [ self.nixosModules.default ];
              services.hydraneckwebrtc.package =
                self.packages.${pkgs.stdenv.hostPlatform.system}.hydraneckwebrtc-demo;
            };
          }
        );
    in
    {
      packages = forAllSystems (pkgs: rec {
        hydraneckwebrtc = pkgs.callPackage ./nixos-module/package.nix { };
        hydraneckwebrtc-demo = pkgs.callPackage ./nixos-module/package.nix { withDemo = true; };
        default = hydraneckwebrtc;
      });

      # `nix run` shows the whole thing on loopback: controller, worker, a body and a test card.
      apps = forAllSystems (pkgs: rec {
        demo = {
          type = "app";
          meta.description = "Demonstration on loopback, or any command of hydraneckwebrtc";
          program = "${pkgs.writeShellScript "hydraneckwebrtc-demo" ''
            if [ $# -eq 0 ]; then set -- demo; fi
            exec ${lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.hydraneckwebrtc-demo} "$@"
          ''}";
        };
        default = demo;
      });

      overlays.default = final: _prev: {
        hydraneckwebrtc = final.callPackage ./nixos-module/package.nix { };
        hydraneckwebrtc-demo = final.callPackage ./nixos-module/package.nix { withDemo = true; };
      };

      nixosModules = rec {
        hydraneckwebrtc =
          { lib, pkgs, ... }:
          {
            _file = ./flake.nix;
            # A host and a module that it imports may both import this one.
            key = "${toString ./.}#nixosModules.hydraneckwebrtc";
            imports = [ ./nixos-module ];
            services.hydraneckwebrtc.package =
              lib.mkDefault
                self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          };
        default = hydraneckwebrtc;
      };

      checks = forAllSystems (
        pkgs:
        let
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          # The package's own build, stopped after another cargo command.
          cargoCheck =
            name: tools: command:
            package.overrideAttrs (old: {
              name = "hydraneckwebrtc-${name}";
              nativeBuildInputs = (old.nativeBuildInputs or [ ]) ++ tools;
              buildPhase = command;
              doCheck = false;
              installPhase = "touch $out";
              postInstall = "";
            });
        in
        {
          inherit package;
          clippy = cargoCheck "clippy" [
            pkgs.clippy
          ] "cargo clippy --offline --release --all-targets -- --deny warnings";
          fmt = cargoCheck "fmt" [ pkgs.rustfmt ] "cargo fmt --check";
          # As in the package: what wants a certificate authority or a relay is left out.
          tests = cargoCheck "tests" [
            pkgs.util-linux
          ] "cargo test --offline --release --lib --bins -- --skip acme_tests --skip doctor::turn";
        }
        // lib.listToAttrs (
          map (name: {
            name = "vm-${name}";
            value = vmTest pkgs name;
          }) vmTestNames
        )
      );

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.cargo
            pkgs.clippy
            pkgs.coturn
            pkgs.jq
            pkgs.rustc
            pkgs.rustfmt
          ];
        };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree or pkgs.nixfmt-rfc-style);
    };
}
