# The option reference of docs/nixos.md, from the declarations of the module.
let
  inherit (import ./eval/machine.nix) lib machine;
  inherit (machine { }) options;

  text =
    v:
    if v ? text then
      v.text
    else if lib.isDerivation v then
      v.name
    else
      builtins.toJSON v;
  default =
    o:
    if o ? defaultText then
      text o.defaultText
    else if o ? default then
      literal o.default
    else
      null;
  literal =
    v:
    if v == null then
      "null"
    else if lib.isAttrs v && v == { } then
      "{ }"
    else if v == [ ] then
      "[ ]"
    else
      builtins.toJSON v;
  # Descriptions use the manual's {option}`...` roles, which Markdown elsewhere does not know.
  plain = builtins.replaceStrings [ "{option}" "{file}" ] [ "" "" ];
  oneLine = t: lib.concatStringsSep " " (lib.filter (w: w != "") (lib.splitString "\n" t));

  entry =
    name: o:
    ''
      #### `${name}`
      ${plain (lib.removeSuffix "\n" o.description)}

      Type: ${o.type.description}.${
        lib.optionalString (default o != null) " Default: `${oneLine (default o)}`."
      }${lib.optionalString (o ? example) " Example: `${oneLine (text o.example)}`."}

    ''
    + lib.concatStrings (
      walk "${name}${if (o.type.description or "") == "submodule" then "" else ".<…>"}" (inner o.type)
    );
  # Options inside of a submodule, however wrapped.
  inner =
    type:
    if type ? options then
      removeAttrs type.options [ "_module" ]
    else if type ? inner then
      inner type.inner
    else
      { };
  walk =
    prefix: set:
    lib.concatMap (
      name:
      let
        o = set.${name};
        path = if prefix == "" then name else "${prefix}.${name}";
      in
      if (o._type or "") == "option" then [ (entry path o) ] else walk path o
    ) (lib.attrNames set);
in
lib.concatStrings (walk "services.hydraneckwebrtc" options.services.hydraneckwebrtc)
