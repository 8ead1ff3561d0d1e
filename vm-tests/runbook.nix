# The fleet under its public name, as the runbook's commands address it.
{ module }:
let
  fleet = import ./fleet.nix { inherit module; };
  domain = "hydraneckwebrtc.experiencenet.com";
  named =
    { pkgs, ... }:
    {
      networking.extraHosts = "192.168.1.2 ${domain}";
      # A certificate of this test; its key opens nothing else.
      environment.etc."tests/tls".source =
        pkgs.runCommand "certificate" { nativeBuildInputs = [ pkgs.openssl ]; }
          ''
            mkdir $out
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \
              -subj /CN=${domain} -addext subjectAltName=DNS:${domain} \
              -addext basicConstraints=critical,CA:FALSE \
              -keyout $out/key.pem -out $out/cert.pem
            chmod 0444 $out/key.pem
          '';
    };
in
{
  name = "runbook";
  nodes = fleet // {
    controller.imports = [
      fleet.controller
      named
      {
        services.hydraneckwebrtc.controller = {
          inherit domain;
          settings.server.tls.certificate = "/etc/tests/tls/cert.pem";
          settings.server.tls.private_key = "/etc/tests/tls/key.pem";
        };
      }
    ];
    worker =
      { lib, ... }:
      {
        imports = [
          fleet.worker
          named
        ];
        services.hydraneckwebrtc.worker = {
          controllerUrl = lib.mkForce "https://${domain}";
          settings.controller.ca_file = "/etc/tests/tls/cert.pem";
        };
      };
  };
  testScript = builtins.readFile ./runbook.py;
}
