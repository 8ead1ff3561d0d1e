# The documents' examples that configure a machine, evaluated as they are written.
let
  inherit (import ./machine.nix) bare lib;
  documents = [
    ../../../docs/nixos.md
    ../../../docs/scale.md
  ];
  blocksOf =
    document:
    map (piece: lib.head (lib.splitString "\n```" piece)) (
      builtins.tail (lib.splitString "\n```nix\n" (builtins.readFile document))
    );
  blocks = lib.concatMap blocksOf documents;
  configurations = builtins.filter (b: !(lib.hasInfix "outputs =" b)) blocks;
  module =
    block:
    import (
      builtins.toFile "example.nix" (if lib.hasPrefix "{" block then block else "{\n${block}\n}\n")
    );
in
map (block: builtins.attrNames (bare (module block)).checked.systemd.services) configurations
