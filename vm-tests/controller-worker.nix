# Two machines and a body: a session's life, and what happens to it when either role restarts.
{ module }:
{
  name = "controller-worker";
  nodes = import ./fleet.nix { inherit module; };
  testScript = builtins.readFile ./controller-worker.py;
}
