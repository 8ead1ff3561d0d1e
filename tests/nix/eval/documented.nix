# The examples of docs/nixos.md that configure a machine, evaluated as they are written.
let
  inherit (import ./machine.nix) lib machine;
  text = builtins.readFile ../../../docs/nixos.md;
  blocks = map (piece: lib.head (lib.splitString "\n```" piece)) (
    builtins.tail (lib.splitString "\n```nix\n" text)
  );
  configurations = builtins.filter (b: !(lib.hasInfix "outputs =" b)) blocks;
  module =
    block:
    import (
      builtins.toFile "example.nix" (if lib.hasPrefix "{" block then block else "{\n${block}\n}\n")
    );
in
map (block: builtins.attrNames (machine (module block)).checked.systemd.services) configurations
