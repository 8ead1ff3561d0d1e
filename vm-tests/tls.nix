# Certificates from where `controller.tls` says: the program's own ACME client with an authority of
# this test, and NixOS' security.acme, which the relay uses, too.
{ module }:
let
  common = import ./common.nix { inherit module; };
  # Pebble is an ACME authority for tests; its own HTTPS needs a certificate as well.
  authorityFiles =
    { pkgs, ... }:
    {
      # The script looks at certificates with it.
      environment.systemPackages = [ pkgs.openssl ];
      networking.extraHosts = ''
        192.168.1.2 builtin.example.com
        192.168.1.3 neck.example.com
      '';
      environment.etc."tests/authority".source =
        pkgs.runCommand "authority" { nativeBuildInputs = [ pkgs.openssl ]; }
          ''
            mkdir $out
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \
              -subj /CN=authority -addext subjectAltName=DNS:authority \
              -addext basicConstraints=critical,CA:FALSE \
              -keyout $out/key.pem -out $out/cert.pem
            chmod 0444 $out/key.pem
          '';
    };
in
{
  name = "tls";
  nodes = {
    authority =
      { lib, pkgs, ... }:
      {
        imports = [
          common
          authorityFiles
        ];
        environment.etc."tests/pebble.json".text = builtins.toJSON {
          pebble = {
            listenAddress = "0.0.0.0:14000";
            managementListenAddress = "0.0.0.0:15000";
            certificate = "/etc/tests/authority/cert.pem";
            privateKey = "/etc/tests/authority/key.pem";
            httpPort = 80;
            tlsPort = 443;
            ocspResponderURL = "";
            externalAccountBindingRequired = false;
          };
        };
        systemd.services.pebble = {
          description = "ACME authority for tests";
          wantedBy = [ "multi-user.target" ];
          environment.PEBBLE_VA_NOSLEEP = "1";
          serviceConfig.ExecStart = "${lib.getExe' pkgs.pebble "pebble"} -config /etc/tests/pebble.json";
        };
        networking.firewall.allowedTCPPorts = [
          14000
          15000
        ];
      };
    builtin = {
      imports = [
        common
        authorityFiles
      ];
      services.hydraneckwebrtc.controller = {
        enable = true;
        domain = "builtin.example.com";
        acmeContact = "ops@example.com";
        openFirewall = true;
        settings.server.acme = {
          directory = "https://authority:14000/dir";
          ca_file = "/etc/tests/authority/cert.pem";
        };
      };
    };
    nixos = {
      imports = [
        common
        authorityFiles
      ];
      security.acme.acceptTerms = true;
      security.acme.defaults.email = "ops@example.com";
      # Nobody answers; what is served until then is self-signed, and the test renews it by hand.
      security.acme.certs."example.com" = {
        domain = "neck.example.com";
        webroot = "/var/lib/acme/challenges";
      };
      services.hydraneckwebrtc = {
        controller = {
          enable = true;
          domain = "neck.example.com";
          tls = "security.acme";
          acmeHost = "example.com";
          openFirewall = true;
        };
        # A relay alone, for workers elsewhere.
        turn = {
          enable = true;
          acmeHost = "example.com";
          openFirewall = true;
        };
      };
    };
  };
  testScript = builtins.readFile ./tls.py;
}
