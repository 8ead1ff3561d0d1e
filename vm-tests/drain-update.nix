# What an operator does to update a worker: restart at once, or drain first.
{ module }:
{
  name = "drain-update";
  nodes = import ./fleet.nix { inherit module; };
  testScript = builtins.readFile ./drain-update.py;
}
