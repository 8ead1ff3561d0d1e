# Options of NixOS' core that the project's module sets.
{ lib, ... }:
let
  t = lib.types;
  option = type: default: lib.mkOption { inherit type default; };
  strings = option (t.listOf t.str) [ ];
  unit = {
    options = {
      enable = option t.bool true;
      description = option t.str "";
      documentation = strings;
      after = strings;
      before = strings;
      bindsTo = strings;
      conflicts = strings;
      partOf = strings;
      requiredBy = strings;
      requires = strings;
      wantedBy = strings;
      wants = strings;
      restartTriggers = option (t.listOf t.anything) [ ];
      unitConfig = option (t.attrsOf t.anything) { };
    };
  };
  service = {
    imports = [ unit ];
    options = {
      environment = option (t.attrsOf t.anything) { };
      path = option (t.listOf t.anything) [ ];
      postStop = option t.lines "";
      preStart = option t.lines "";
      restartIfChanged = option t.bool true;
      script = option t.lines "";
      serviceConfig = option (t.attrsOf t.anything) { };
      stopIfChanged = option t.bool true;
    };
  };
  file.options = {
    enable = option t.bool true;
    group = option t.str "+0";
    mode = option t.str "symlink";
    source = option (t.nullOr t.path) null;
    text = option (t.nullOr t.lines) null;
    user = option t.str "+0";
  };
  group.options.members = strings;
  user.options = {
    description = option t.str "";
    extraGroups = strings;
    group = option t.str "nogroup";
    home = option t.str "/var/empty";
    isSystemUser = option t.bool false;
  };
in
{
  options = {
    assertions = option (t.listOf t.anything) [ ];
    warnings = strings;
    environment.etc = option (t.attrsOf (t.submodule file)) { };
    environment.systemPackages = option (t.listOf t.package) [ ];
    networking.domain = option (t.nullOr t.str) null;
    networking.extraHosts = option t.lines "";
    networking.hostName = option t.str "nixos";
    system.stateVersion = option t.str "26.05";
    systemd.services = option (t.attrsOf (t.submodule service)) { };
    systemd.tmpfiles.rules = strings;
    users.groups = option (t.attrsOf (t.submodule group)) { };
    users.users = option (t.attrsOf (t.submodule user)) { };
    # Of the test machines alone.
    virtualisation.cores = option t.ints.positive 1;
    virtualisation.diskSize = option t.ints.positive 1024;
    virtualisation.memorySize = option t.ints.positive 1024;
  };
}
