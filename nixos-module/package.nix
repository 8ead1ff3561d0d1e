# The program, built from this repository and its Cargo.lock.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  util-linux,
  # The commands demo, demo-body and testcard, for trials and tests. A release has none of them.
  withDemo ? false,
}:
let
  cargo = lib.importTOML ../Cargo.toml;
  inherit (lib) fileset;
in
rustPlatform.buildRustPackage {
  pname = cargo.package.name + lib.optionalString withDemo "-demo";
  inherit (cargo.package) version;

  # What cannot change the binary stays out, so that it does not cause a rebuild.
  src = fileset.toSource {
    root = ../.;
    fileset = fileset.difference ../. (
      fileset.unions [
        (fileset.maybeMissing ../.ci)
        (fileset.maybeMissing ../target)
        ../flake.lock
        ../flake.nix
        ../nixos-module
        ../tests/nix
        ../vm-tests
      ]
    );
  };
  cargoLock.lockFile = ../Cargo.lock;
  buildNoDefaultFeatures = true;
  buildFeatures = lib.optional withDemo "demo";

  nativeBuildInputs = [ installShellFiles ];

  # The tests start daemons by `setsid`.
  nativeCheckInputs = [ util-linux ];
  # The other tests want browsers, coturn or network namespaces; CI runs those.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];
  # They want a real certificate authority and a real relay on loopback; tests/run has both.
  checkFlags = [
    "--skip=acme_tests"
    "--skip=doctor::turn"
  ];

  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/hydraneckwebrtc man > hydraneckwebrtc.1
    installManPage hydraneckwebrtc.1
    for shell in bash fish zsh; do
      $out/bin/hydraneckwebrtc completions $shell > hydraneckwebrtc.$shell
      installShellCompletion --$shell --name hydraneckwebrtc.$shell hydraneckwebrtc.$shell
    done
  '';

  # The module asks for it before it offers the test card.
  passthru = { inherit withDemo; };

  meta = {
    inherit (cargo.package) description;
    homepage = cargo.package.repository;
    license = lib.licenses.mit;
    mainProgram = "hydraneckwebrtc";
    platforms = lib.platforms.linux;
  };
}
