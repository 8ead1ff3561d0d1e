# A small stand-in for nixpkgs' lib: enough of the module system to evaluate this project's
# own NixOS module where no nixpkgs can be had (CI).  Written for that; not nixpkgs code.
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    elem
    elemAt
    filter
    foldl'
    functionArgs
    genList
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    map
    mapAttrs
    match
    removeAttrs
    replaceStrings
    sort
    substring
    tail
    toString
    ;
  optional = c: x: if c then [ x ] else [ ];
  optionals = c: x: if c then x else [ ];
  optionalAttrs = c: x: if c then x else { };
  optionalString = c: x: if c then x else "";
  concatStringsSep = builtins.concatStringsSep;
  showPath = concatStringsSep ".";
  unique = foldl' (acc: x: if elem x acc then acc else acc ++ [ x ]) [ ];
  isType = t: x: isAttrs x && (x._type or null) == t;
  isDerivation = x: isAttrs x && (x.type or null) == "derivation";
  plainAttrs = x: isAttrs x && !(x ? _type) && !(isDerivation x);
  all = builtins.all;
  any = builtins.any;
  last = l: elemAt l (length l - 1);

  mkProp = t: a: a // { _type = t; };
  mkIf = condition: content: mkProp "if" { inherit condition content; };
  mkMerge = contents: mkProp "merge" { inherit contents; };
  mkOverride = priority: content: mkProp "override" { inherit priority content; };
  mkOrder = priority: content: mkProp "order" { inherit priority content; };
  mkOption = mkProp "option";

  # attribute-set definitions with their properties pushed to the members
  pushDown =
    c:
    if isType "merge" c then
      concatMap pushDown c.contents
    else if isType "if" c then
      map (mapAttrs (_: mkIf c.condition)) (pushDown c.content)
    else if isType "override" c then
      map (mapAttrs (_: mkOverride c.priority)) (pushDown c.content)
    else if isType "order" c then
      map (mapAttrs (_: mkOrder c.priority)) (pushDown c.content)
    else
      [ c ];
  # one definition -> [ { value, prio, order } ]
  discharge =
    d:
    if isType "merge" d then
      concatMap discharge d.contents
    else if isType "if" d then
      (if d.condition then discharge d.content else [ ])
    else if isType "override" d then
      map (x: x // { prio = d.priority; }) (discharge d.content)
    else if isType "order" d then
      map (x: x // { order = d.priority; }) (discharge d.content)
    else
      [
        {
          value = d;
          prio = 100;
          order = 1000;
        }
      ];
  effective =
    defs:
    let
      ds = concatMap discharge defs;
      best = foldl' (a: d: if d.prio < a then d.prio else a) 9999 ds;
    in
    map (d: d.value) (sort (a: b: a.order < b.order) (filter (d: d.prio == best) ds));
  mergeDefs =
    type: path: defs:
    let
      vs = effective defs;
    in
    if vs == [ ] then
      throw "The option `${showPath path}' is used but not defined."
    else
      map (
        v:
        if type.check v then
          v
        else
          throw "A definition for option `${showPath path}' is not of type `${type.description}': ${
            builtins.toJSON (
              if isFunction v then
                "<function>"
              else if isDerivation v then
                "<derivation>"
              else
                v
            )
          }"
      ) vs;
  mergeOne =
    path: vs:
    if all (v: v == head vs) vs then
      head vs
    else
      throw "The option `${showPath path}' has conflicting definition values: ${builtins.toJSON vs}";
  mk =
    description: check: a:
    {
      inherit description check;
      merge = mergeOne;
      _type = "option-type";
    }
    // a;
  run =
    type: path: defs:
    type.merge path (mergeDefs type path defs);

  types = rec {
    unspecified = mk "unspecified value" (_: true) { };
    raw = unspecified;
    bool = mk "boolean" isBool { };
    int = mk "signed integer" isInt { };
    float = mk "floating point number" isFloat { };
    number = mk "integer or float" (x: isInt x || isFloat x) { };
    str = mk "string" isString { };
    nonEmptyStr = mk "non-empty string" (x: isString x && x != "") { };
    singleLineStr = mk "single-line string" (x: isString x && match "[^\n]*" x != null) { };
    strMatching = re: mk "string matching ${re}" (x: isString x && match re x != null) { };
    path = mk "absolute path" (
      x: isPath x || isDerivation x || (isString x && substring 0 1 x == "/")
    ) { };
    package = mk "package" isDerivation {
      merge =
        path: vs:
        if length vs == 1 then
          head vs
        else
          throw "The option `${showPath path}' is defined multiple times while it's expected to be unique.";
    };
    separatedString =
      sep:
      mk "strings concatenated with ${builtins.toJSON sep}" isString { merge = _: concatStringsSep sep; };
    lines = separatedString "\n";
    commas = separatedString ",";
    attrs = mk "attribute set" isAttrs { merge = _: foldl' (a: b: a // b) { }; };
    ints = {
      between =
        lo: hi:
        mk "integer between ${toString lo} and ${toString hi}" (x: isInt x && x >= lo && x <= hi) { };
      positive = mk "positive integer" (x: isInt x && x > 0) { };
      unsigned = mk "unsigned integer" (x: isInt x && x >= 0) { };
    };
    port = ints.between 0 65535;
    enum = xs: mk "one of ${builtins.toJSON xs}" (x: elem x xs) { };
    nullOr =
      t:
      mk "null or ${t.description}" (x: x == null || t.check x) {
        inner = t;
        merge = p: vs: if all (v: v == null) vs then null else t.merge p vs;
      };
    either =
      a: b:
      mk "${a.description} or ${b.description}" (x: a.check x || b.check x) {
        merge =
          p: vs:
          if all a.check vs then
            a.merge p vs
          else if all b.check vs then
            b.merge p vs
          else
            mergeOne p vs;
      };
    oneOf = ts: foldl' either (head ts) (tail ts);
    listOf =
      t:
      mk "list of ${t.description}" isList {
        inner = t;
        emptyValue = [ ];
        merge =
          p: vs:
          concatLists (
            genList (
              i:
              let
                l = elemAt vs i;
              in
              concatLists (
                genList (
                  j:
                  map (
                    v:
                    t.merge (p ++ [ "[${toString i}.${toString j}]" ]) [
                      (head (mergeDefs t (p ++ [ "[${toString j}]" ]) [ v ]))
                    ]
                  ) (map (d: d.value) (discharge (elemAt l j)))
                ) (length l)
              )
            ) (length vs)
          );
      };
    attrsOf =
      t:
      mk "attribute set of ${t.description}" isAttrs {
        inner = t;
        emptyValue = { };
        merge =
          p: vs:
          let
            names = unique (concatMap attrNames vs);
            defsOf = n: concatMap (v: optional (v ? ${n}) v.${n}) vs;
          in
          listToAttrs (
            concatMap (
              n:
              optional (effective (defsOf n) != [ ]) {
                name = n;
                value = run t (p ++ [ n ]) (defsOf n);
              }
            ) names
          );
      };
    lazyAttrsOf = attrsOf;
    coercedTo =
      from: f: to:
      mk "${to.description} or ${from.description} convertible to it" (x: to.check x || from.check x) {
        merge = p: vs: to.merge p (map (v: if from.check v && !(to.check v) then f v else v) vs);
      };
    # merges whatever comes: sets by member, lists by concatenation, the rest must agree
    loose = mk "anything" (_: true) {
      merge =
        p: vs:
        if all plainAttrs vs then
          (attrsOf loose).merge p vs
        else if all isList vs then
          concatLists vs
        else
          mergeOne p vs;
    };
    anything = loose;
    submoduleWith =
      {
        modules,
        specialArgs ? { },
        description ? "submodule",
        ...
      }:
      mk description (x: isAttrs x || isFunction x || isPath x) {
        emptyValue = { };
        options =
          (evalModules {
            inherit specialArgs;
            check = false;
            modules = modules ++ [ { _module.args.name = "<name>"; } ];
          }).options;
        merge =
          p: vs:
          (evalModules {
            inherit specialArgs;
            prefix = p;
            modules =
              modules
              ++ [ { _module.args.name = last p; } ]
              ++ map (v: if isFunction v || isPath v then v else { config = v; }) vs;
          }).config;
      };
    submodule = m: submoduleWith { modules = if isList m then m else [ m ]; };
    deferredModule = mk "module" (_: true) { merge = _: vs: { imports = vs; }; };
    uniq = t: t;
    optionType = unspecified;
  };

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
      check ? true,
    }:
    let
      load =
        m:
        let
          v = if isPath m || isString m then import m else m;
          r =
            if isFunction v then
              v (
                (mapAttrs (n: _: args.${n}) (functionArgs v))
                // optionalAttrs (functionArgs v == { }) (
                  {
                    inherit config options;
                    lib = self;
                  }
                  // specialArgs
                )
              )
            else
              v;
          long = r ? config || r ? options;
        in
        {
          # What is imported by several is there once: a file, or whatever has the same key.
          key = r.key or (if isPath m || isString m then toString m else null);
          imports = r.imports or [ ];
          module = {
            options = if long then r.options or { } else { };
            config = (
              if long then
                r.config or { }
              else
                removeAttrs r [
                  "imports"
                  "_file"
                  "key"
                  "disabledModules"
                  "meta"
                  "freeformType"
                  "_module"
                ]
            );
            module = r._module or { };
            freeform =
              optional (r ? freeformType) r.freeformType
              ++ optional (r ? _module && r._module ? freeformType) r._module.freeformType;
          };
        };
      collect =
        found: m:
        let
          loading = load m;
        in
        if loading.key != null && elem loading.key found.keys then
          found
        else
          foldl' collect {
            keys = found.keys ++ optional (loading.key != null) loading.key;
            modules = found.modules ++ [ loading.module ];
          } loading.imports;
      loaded =
        (foldl' collect {
          keys = [ ];
          modules = [ ];
        } modules).modules;
      # arguments: special ones, the result itself, and _module.args
      margs =
        foldl' (a: l: a // (l.module.args or { })) { } loaded
        // mapAttrs (_: v: run types.unspecified [ "_module" "args" ] [ v ]) (
          foldl' (a: c: a // (c._module.args or { })) { } [ ]
        );
      args = {
        inherit config options;
        lib = self;
      }
      // margs
      // specialArgs;
      options = foldl' mergeOpts { } (map (l: l.options) loaded);
      mergeOpts =
        a: b:
        a
        // mapAttrs (
          n: v:
          if a ? ${n} && !(isType "option" v) && !(isType "option" a.${n}) then
            mergeOpts a.${n} v
          else if a ? ${n} then
            throw "The option `${showPath (prefix ++ [ n ])}' is already declared."
          else
            v
        ) b;
      freeforms = concatMap (l: l.freeform) loaded;
      level =
        path: decls: defs:
        let
          declared = mapAttrs (
            n: o:
            let
              ds = concatMap (d: optional (d ? ${n}) d.${n}) defs;
              p = path ++ [ n ];
            in
            if isType "option" o then option p o ds else level p o (concatMap pushDown ds)
          ) decls;
          extra = filter (n: !(decls ? ${n})) (unique (concatMap attrNames defs));
          extraDefs = n: concatMap (d: optional (d ? ${n}) d.${n}) defs;
          live = filter (n: effective (extraDefs n) != [ ]) extra;
        in
        if extra == [ ] then
          declared
        else if freeforms != [ ] && (prefix != [ ] || length path < 2) then
          ((head freeforms).merge path [
            (listToAttrs (
              map (n: {
                name = n;
                value = mkMerge (extraDefs n);
              }) extra
            ))
          ])
          // declared
        else if check && live != [ ] then
          throw "The option `${showPath (path ++ [ (head live) ])}' does not exist."
        else
          declared;
      option =
        p: o: ds:
        let
          t = o.type or types.unspecified;
          all' = if effective ds != [ ] then ds else optional (o ? default) (mkOverride 1500 o.default);
          v = if effective all' == [ ] && t ? emptyValue then t.emptyValue else run t p all';
        in
        if o.readOnly or false && length ds > 1 then
          throw "The option `${showPath p}' is read-only, but it's set multiple times."
        else
          (o.apply or (x: x)) v;
      config = level prefix options (concatMap (l: pushDown l.config) loaded);
    in
    {
      inherit config options;
    };

  recursiveUpdate =
    a: b:
    if isAttrs a && isAttrs b && !(isDerivation b) then
      a // mapAttrs (n: v: if a ? ${n} then recursiveUpdate a.${n} v else v) b
    else
      b;
  concatMapStringsSep =
    sep: f: l:
    concatStringsSep sep (map f l);
  escapeShellArg = s: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString s)}'";
  self = rec {
    inherit
      types
      evalModules
      mkIf
      mkMerge
      mkOverride
      mkOrder
      mkOption
      optional
      optionals
      optionalAttrs
      optionalString
      unique
      isDerivation
      isType
      all
      any
      last
      recursiveUpdate
      concatMapStringsSep
      escapeShellArg
      ;
    inherit (builtins)
      attrNames
      attrValues
      concatStringsSep
      concatMap
      elem
      elemAt
      filter
      sort
      foldl'
      functionArgs
      genList
      head
      hasAttr
      isAttrs
      isBool
      isFunction
      isInt
      isList
      isString
      length
      listToAttrs
      map
      mapAttrs
      match
      readFile
      removeAttrs
      replaceStrings
      split
      stringLength
      substring
      tail
      toJSON
      fromJSON
      typeOf
      getAttr
      ;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkOptionDefault = mkOverride 1500;
    mkBefore = mkOrder 500;
    mkAfter = mkOrder 1500;
    mkEnableOption =
      n:
      mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = "Whether to enable ${n}.";
      };
    mkPackageOption =
      pkgs: n:
      {
        default ? n,
        nullable ? false,
        extraDescription ? "",
        ...
      }:
      let
        path = if isList default then default else [ default ];
      in
      mkOption {
        type = (if nullable then types.nullOr else (t: t)) types.package;
        default = foldl' (a: k: a.${k}) pkgs path;
        defaultText = literalExpression "pkgs.${showPath path}";
        description =
          "The ${toString n} package to use."
          + optionalString (extraDescription != "") " ${extraDescription}";
      };
    mkRenamedOptionModule = _: _: { };
    mkRemovedOptionModule = _: _: { };
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    literalMD = literalExpression;
    mdDoc = x: x;
    filterAttrs =
      f: a:
      listToAttrs (
        concatMap (
          n:
          optional (f n a.${n}) {
            name = n;
            value = a.${n};
          }
        ) (attrNames a)
      );
    filterAttrsRecursive =
      f: a:
      listToAttrs (
        concatMap (
          n:
          optional (f n a.${n}) {
            name = n;
            value = if isAttrs a.${n} && !(isDerivation a.${n}) then filterAttrsRecursive f a.${n} else a.${n};
          }
        ) (attrNames a)
      );
    mapAttrsToList = f: a: map (n: f n a.${n}) (attrNames a);
    mapAttrs' = f: a: listToAttrs (map (n: f n a.${n}) (attrNames a));
    nameValuePair = name: value: { inherit name value; };
    genAttrs =
      ns: f:
      listToAttrs (
        map (n: {
          name = n;
          value = f n;
        }) ns
      );
    concatMapAttrs = f: a: foldl' (x: y: x // y) { } (mapAttrsToList f a);
    concatMapStrings = concatMapStringsSep "";
    concatLines = concatMapStringsSep "" (l: l + "\n");
    concatStrings = concatStringsSep "";
    concatLists = builtins.concatLists;
    flatten = x: if isList x then concatMap flatten x else [ x ];
    toList = x: if isList x then x else [ x ];
    singleton = x: [ x ];
    imap0 = f: l: genList (i: f i (elemAt l i)) (length l);
    range = a: b: genList (i: a + i) (b - a + 1);
    hasPrefix = p: s: substring 0 (stringLength p) s == p;
    hasSuffix =
      p: s:
      let
        l = stringLength s;
        k = stringLength p;
      in
      l >= k && substring (l - k) k s == p;
    hasInfix = p: s: length (split (escapeRegex p) s) > 1;
    escapeRegex =
      s:
      replaceStrings
        [
          "."
          "+"
          "*"
          "?"
          "("
          ")"
          "["
          "]"
          "^"
          "$"
          "|"
          "{"
          "}"
          "\\"
        ]
        [
          "\\."
          "\\+"
          "\\*"
          "\\?"
          "\\("
          "\\)"
          "\\["
          "\\]"
          "\\^"
          "\\$"
          "\\|"
          "\\{"
          "\\}"
          "\\\\"
        ]
        s;
    removePrefix = p: s: if hasPrefix p s then substring (stringLength p) (stringLength s) s else s;
    removeSuffix = p: s: if hasSuffix p s then substring 0 (stringLength s - stringLength p) s else s;
    splitString = sep: s: filter isString (split (escapeRegex sep) s);
    toInt = s: if match "0[0-9]+" s != null then throw "toInt: ambiguous ${s}" else fromJSON s;
    toIntBase10 = s: fromJSON (head (match "0*([0-9]+)" s));
    intersectLists = e: filter (x: elem x e);
    boolToString = b: if b then "true" else "false";
    escapeShellArgs = concatMapStringsSep " " escapeShellArg;
    getExe = p: getExe' p (p.meta.mainProgram or p.pname or p.name);
    getExe' = p: n: "${p}/bin/${n}";
    getBin = p: p;
    makeBinPath = concatMapStringsSep ":" (p: "${p}/bin");
    isStorePath = x: isString x && hasPrefix builtins.storeDir x;
    versionAtLeast = a: b: builtins.compareVersions a b >= 0;
    versionOlder = a: b: builtins.compareVersions a b < 0;
    warn = m: x: builtins.trace "warning: ${m}" x;
    warnIf = c: m: if c then warn m else (x: x);
    throwIf = c: m: if c then throw m else (x: x);
    throwIfNot = c: throwIf (!c);
    assertMsg = c: m: if c then true else throw m;
    fix =
      f:
      let
        x = f x;
      in
      x;
    id = x: x;
    const = x: _: x;
    flip =
      f: a: b:
      f b a;
    pipe = foldl' (x: f: f x);
    fakeHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    importTOML = p: fromTOML (readFile p);
    importJSON = p: fromJSON (readFile p);
    maintainers = { };
    licenses = genAttrs [ "mit" "asl20" "agpl3Plus" "gpl3Plus" ] (n: {
      shortName = n;
      free = true;
    });
    platforms = {
      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    };
    attrByPath =
      p: d: a:
      if p == [ ] then
        a
      else if isAttrs a && a ? ${head p} then
        attrByPath (tail p) d a.${head p}
      else
        d;
    hasAttrByPath = p: a: attrByPath p null a != null;
    setAttrByPath = p: v: if p == [ ] then v else { ${head p} = setAttrByPath (tail p) v; };
    min = a: b: if a < b then a else b;
    max = a: b: if a > b then a else b;
    getVersion = p: p.version or "";
    # file sets as lists of paths: the stand-in copies the root whole and leaves out what is taken away
    fileset = {
      maybeMissing = p: p;
      unions = l: l;
      union = a: b: [
        a
        b
      ];
      difference = root: without: { inherit root without; };
      toSource =
        { root, fileset }:
        builtins.path {
          path = root;
          name = "source";
          filter =
            p: _:
            !(any (x: toString x == p) (
              [
                (root + "/target")
                (root + "/.git")
              ]
              ++ (fileset.without or [ ])
            ));
        };
    };
    trivial = {
      release = "26.05";
    };
  };
in
self
