# systemd.services -> the text of each unit, as NixOS writes it.
{ lib, pkgs }:
let
  value =
    v:
    if v == true then
      "true"
    else if v == false then
      "false"
    else
      toString v;
  assignments =
    set:
    lib.concatStrings (
      lib.mapAttrsToList (
        key: v:
        lib.concatMapStrings (x: "${key}=${value x}\n") (
          if lib.isList v then
            v
          else if v == null then
            [ ]
          else
            [ v ]
        )
      ) set
    );
  words = lib.concatStringsSep " ";
  hook =
    unit: name: text:
    lib.optionalAttrs (text != "") {
      ${name} = pkgs.writeShellScript "${unit}-${name}" "set -e\n${text}";
    };
  path = packages: lib.makeBinPath (packages ++ [ pkgs.coreutils ]);
in
lib.mapAttrs (
  name: s: ''
    [Unit]
    ${assignments (
      lib.filterAttrs (_: v: v != "") {
        Description = s.description;
        Documentation = words s.documentation;
        After = words s.after;
        Before = words s.before;
        BindsTo = words s.bindsTo;
        Conflicts = words s.conflicts;
        PartOf = words s.partOf;
        Requires = words s.requires;
        Wants = words s.wants;
      }
      // s.unitConfig
    )}
    [Service]
    ${
      lib.concatStrings (
        lib.mapAttrsToList (k: v: "Environment=\"${k}=${value v}\"\n") (
          { PATH = path s.path; } // s.environment
        )
      )
    }${
      assignments (
        hook name "ExecStartPre" s.preStart
        // hook name "ExecStart" s.script
        // hook name "ExecStopPost" s.postStop
        // s.serviceConfig
      )
    }
  ''
)
