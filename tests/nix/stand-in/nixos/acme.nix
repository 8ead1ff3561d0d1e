# security.acme with the option names of NixOS, and the unit of each certificate that leaves a
# self-signed one behind until the authority answers. No authority answers here.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  t = lib.types;
  cfg = config.security.acme;
  option = type: default: lib.mkOption { inherit type default; };
  maybe = type: option (t.nullOr type) null;
  shared = {
    dnsProvider = maybe t.str;
    email = maybe t.str;
    environmentFile = maybe t.path;
    server = maybe t.str;
    webroot = maybe t.str;
  };
  certificate =
    { name, ... }:
    {
      options = shared // {
        directory = lib.mkOption {
          type = t.str;
          default = "/var/lib/acme/${name}";
          readOnly = true;
        };
        domain = option t.str name;
        extraDomainNames = option (t.listOf t.str) [ ];
        group = option t.str "acme";
        listenHTTP = maybe t.str;
        reloadServices = option (t.listOf t.str) [ ];
      };
    };
  unit = name: c: {
    name = "acme-${name}";
    value = {
      description = "Ensure certificate for ${name}";
      wantedBy = [ "multi-user.target" ];
      unitConfig.ConditionPathExists = "!${c.directory}/key.pem";
      path = [ pkgs.openssl ];
      script = ''
        cd ${c.directory}
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
          -subj /CN=${c.domain} -addext subjectAltName=DNS:${c.domain} -keyout key.pem -out fullchain.pem
        chmod 0640 key.pem fullchain.pem
      '';
      serviceConfig = {
        Group = c.group;
        StateDirectory = "acme/${name}";
        StateDirectoryMode = "0750";
        Type = "oneshot";
        UMask = "0027";
        User = "acme";
      };
    };
  };
in
{
  options.security.acme = {
    acceptTerms = option t.bool false;
    certs = option (t.attrsOf (t.submodule certificate)) { };
    defaults = option (t.submodule { options = shared; }) { };
  };

  config = lib.mkIf (cfg.certs != { }) {
    assertions = [
      {
        assertion = cfg.acceptTerms;
        message = "You must accept the CA's terms of service before using the ACME module by setting `security.acme.acceptTerms` to `true`.";
      }
    ]
    ++ lib.mapAttrsToList (name: c: {
      assertion =
        lib.length (
          lib.filter (way: way != null) [
            c.dnsProvider
            c.listenHTTP
            c.webroot
          ]
        ) == 1;
      message = "Exactly one of dnsProvider, webroot, listenHTTP is required for security.acme.certs.${name}.";
    }) cfg.certs;
    users.groups.acme = { };
    users.users.acme = {
      group = "acme";
      isSystemUser = true;
    };
    systemd.services = lib.listToAttrs (lib.mapAttrsToList unit cfg.certs);
  };
}
