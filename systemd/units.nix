# The unit files of this directory, for systems without NixOS, from the module's own source.
# `tests/nix/generate` writes them; a test fails when they differ.
let
  units = import ../nixos-module/units.nix;
  hardening = import ../nixos-module/hardening.nix;
  program = "/usr/local/bin/hydraneckwebrtc";
  configuration = "/etc/hydraneckwebrtc";

  value =
    v:
    if v == true then
      "yes"
    else if v == false then
      "no"
    else
      toString v;
  line = key: v: "${key}=${value v}\n";
  lines =
    set:
    builtins.concatStringsSep "" (
      builtins.concatMap (
        key:
        let
          v = set.${key};
        in
        if builtins.isList v then map (line key) v else [ (line key v) ]
      ) (builtins.attrNames set)
    );
  list = key: words: if words == [ ] then "" else line key (builtins.concatStringsSep " " words);
  generated = "# Generated from nixos-module by tests/nix/generate; change it there.\n";

  unit =
    u:
    generated
    + "[Unit]\n"
    + line "Description" u.description
    + list "Documentation" u.documentation
    + list "Wants" (u.wants or [ ])
    + list "Requires" (u.requires or [ ])
    + list "After" (u.after or [ ])
    + lines u.unitConfig
    + "\n[Service]\n"
    + lines u.serviceConfig
    + "\n[Install]\nWantedBy=multi-user.target\n";
in
{
  # The configuration files hold secrets, so only root reads them and systemd hands them over.
  "systemd/hydraneckwebrtc-controller.service" = unit (
    units.controller {
      exec = "${program} --config \${CREDENTIALS_DIRECTORY}/config.yaml controller";
      credentials = [ "config.yaml:${configuration}/controller.yaml" ];
      lowPorts = true;
    }
  );
  "systemd/hydraneckwebrtc.service" = unit (
    units.worker {
      exec = "${program} --config \${CREDENTIALS_DIRECTORY}/config.yaml worker";
      credentials = [
        "config.yaml:${configuration}/worker.yaml"
        "turn-secret:${units.secretsDirectory}/turn-secret"
      ];
      needsSecrets = true;
      tunnelUnits = [ "wg-quick.target" ];
    }
  );
  "systemd/hydraneckwebrtc-secrets.service" = unit (
    units.secrets {
      exec = "/usr/local/lib/hydraneckwebrtc/hydraneckwebrtc-secrets";
      names = [ "turn-secret" ];
    }
  );
  "systemd/coturn.service.d/hydraneckwebrtc.conf" = generated + "[Service]\n" + lines hardening.turn;
}
