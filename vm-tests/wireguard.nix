# A body that is reached through a tunnel alone.
{ module }:
let
  common = import ./common.nix { inherit module; };
  fleet = import ./fleet.nix { inherit module; };
  # Keys of this test and of nothing else.
  keys = {
    body.private = "wJTIKIscQkKZT1w7H9RdPGpMl/c11vrXGZprpaLmSGA=";
    body.public = "1Cu2+DMDaK1xM4tr/pJ7Qfrsk4KEX9nn7/E+xFUtCQg=";
    worker.private = "yNWRNdD8OG/xW0tfIwDu81pWHlqfcRcbu6scm75kyUE=";
    worker.public = "s2JOBn8Zj0BJgi2JmReh/VV8s9gdp/va/CqdYiZ9pXo=";
  };
  tunnel = own: other: {
    enable = true;
    listenPort = 51820;
    openFirewall = true;
    privateKeyFile = "/etc/tests/wireguard";
    addresses = [ own ];
    peers = [ (other // { persistentKeepalive = 1; }) ];
  };
  keyFile = key: {
    environment.etc."tests/wireguard" = {
      text = "${key}\n";
      mode = "0400";
    };
  };
in
{
  name = "wireguard";
  nodes = fleet // {
    body.imports = [
      common
      (import ./body.nix { address = "10.10.100.6"; })
      (keyFile keys.body.private)
      {
        services.hydraneckwebrtc.wireguard = tunnel "10.10.100.6/16" {
          publicKey = keys.worker.public;
          endpoint = "192.168.1.3:51820";
          allowedIPs = [ "10.10.0.2/32" ];
        };
      }
    ];
    worker.imports = [
      fleet.worker
      (keyFile keys.worker.private)
      {
        services.hydraneckwebrtc.wireguard = tunnel "10.10.0.2/16" {
          publicKey = keys.body.public;
          endpoint = "192.168.1.1:51820";
          allowedIPs = [ "10.10.100.6/32" ];
        };
      }
    ];
  };
  testScript = builtins.readFile ./wireguard.py;
}
