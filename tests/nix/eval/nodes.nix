# Names of the machines of every VM test.
let
  lib = import ../stand-in/lib.nix;
  directory = ../../../vm-tests;
  names = map (lib.removeSuffix ".py") (
    lib.filter (lib.hasSuffix ".py") (lib.attrNames (builtins.readDir directory))
  );
in
lib.genAttrs names (
  name: lib.attrNames (import (directory + "/${name}.nix") { module = { }; }).nodes
)
