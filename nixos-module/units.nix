# The services as plain data: one source for the NixOS module and for the unit files that other
# systems install from ../systemd (a test fails when those differ). Nothing here depends on
# nixpkgs; what differs between systems are the arguments.
let
  hardening = import ./hardening.nix;

  # 243 is systemd's "credentials": a secret file is missing. 2 and 78 are ours: wrong usage, bad
  # configuration. None of them heals by trying again.
  neverRestart = [
    2
    78
    "CREDENTIALS"
  ];

  # SIGHUP reads certificates again; open connections go on.
  daemon = kill: {
    ExecReload = "${kill} -HUP $MAINPID";
    # server.connections_max is 4096, and a proxied connection is two descriptors, four at most.
    LimitNOFILE = 65536;
    NotifyAccess = "main";
    Restart = "on-failure";
    RestartPreventExitStatus = neverRestart;
    RestartSec = 2;
    TimeoutStartSec = 60;
    TimeoutStopSec = 30;
    Type = "notify";
    WatchdogSec = 30;
  };

  online = {
    after = [ "network-online.target" ];
    wants = [ "network-online.target" ];
  };

  # A service that fails five times in a minute stays down and says so.
  startLimit = {
    StartLimitBurst = 5;
    StartLimitIntervalSec = 60;
  };

  # What prepares a start runs as often as there are starts; those have the limit.
  noLimit.StartLimitIntervalSec = 0;

  documentation = [ "https://github.com/cederikdotcom/hydraneckwebrtc" ];
  addressesUnit = "hydraneckwebrtc-addresses.service";
  secretsUnit = "hydraneckwebrtc-secrets.service";
in
rec {
  # Where generated secrets are kept, readable by root alone.
  secretsDirectory = "/var/lib/hydraneckwebrtc-secrets";

  # Writes each named secret once; a secret that exists is never touched. Runs before every start
  # of who needs it and does not stay active: a change of it stops nobody, and a role that is added
  # later finds its secrets.
  secrets =
    { exec, names }:
    {
      description = "Secrets of hydraneckwebrtc, generated once";
      inherit documentation;
      unitConfig = noLimit;
      serviceConfig = hardening.base // {
        ExecStart = "${exec} ${builtins.concatStringsSep " " names}";
        PrivateNetwork = true;
        RestrictAddressFamilies = "none";
        StateDirectory = "hydraneckwebrtc-secrets";
        StateDirectoryMode = "0700";
        Type = "oneshot";
      };
    };

  # Notes the machine's own addresses, anew before every start of coturn and the worker.
  addresses =
    { exec, tunnels }:
    {
      description = "Addresses of this machine, for hydraneckwebrtc and its relay";
      inherit documentation;
      inherit (online) after wants;
      unitConfig = noLimit;
      serviceConfig = hardening.base // {
        ExecStart = "${exec} ${builtins.concatStringsSep " " tunnels}";
        # Netlink alone, and only of the network it has to look at.
        IPAddressDeny = "any";
        RestrictAddressFamilies = "AF_NETLINK";
        RuntimeDirectory = "hydraneckwebrtc-addresses";
        RuntimeDirectoryPreserve = true;
        Type = "oneshot";
        UMask = "0022";
      };
    };
  addressesDirectory = "/run/hydraneckwebrtc-addresses";

  # systemd keeps the state of a service with a user of its own here; /var/lib/hydraneckwebrtc is a
  # symlink to it, and the program follows none.
  stateDirectory = "/var/lib/private/hydraneckwebrtc";

  controller =
    {
      exec,
      credentials,
      kill ? "/bin/kill",
      lowPorts ? false,
      needsSecrets ? false,
    }:
    {
      description = "hydraneckwebrtc controller: routes sessions to workers";
      inherit documentation;
      after = online.after ++ (if needsSecrets then [ secretsUnit ] else [ ]);
      inherit (online) wants;
      requires = if needsSecrets then [ secretsUnit ] else [ ];
      unitConfig = startLimit;
      serviceConfig =
        hardening.service
        // (if lowPorts then hardening.lowPorts else { })
        // daemon kill
        // {
          ExecStart = exec;
          LoadCredential = credentials;
          StateDirectory = "hydraneckwebrtc-controller";
          StateDirectoryMode = "0700";
          SyslogIdentifier = "hydraneckwebrtc-controller";
        };
    };

  # Sessions outlive the worker's process: a stop signal goes to the main process alone
  # (KillMode), the unit's cgroup is the worker's to divide (Delegate), and what sessions need
  # lies in the state directory, which a restart leaves in place, not in the private /tmp.
  worker =
    {
      exec,
      credentials,
      kill ? "/bin/kill",
      lowPorts ? false,
      needsAddresses ? false,
      needsSecrets ? false,
      tunnelUnits ? [ ],
    }:
    let
      prepared =
        (if needsSecrets then [ secretsUnit ] else [ ])
        ++ (if needsAddresses then [ addressesUnit ] else [ ]);
    in
    {
      description = "hydraneckwebrtc worker: runs and proxies stream sessions";
      inherit documentation;
      # A missing tunnel degrades the worker (its health says so); it does not stop it.
      after = online.after ++ tunnelUnits ++ prepared;
      wants = online.wants ++ tunnelUnits;
      requires = prepared;
      unitConfig = startLimit;
      serviceConfig =
        hardening.service
        // (if lowPorts then hardening.lowPorts else { })
        // daemon kill
        // {
          Delegate = true;
          # The worker in a leaf of its own lets sessions beside it have limits (systemd 254; an
          # older one says that it does not know this, and sessions have none).
          DelegateSubgroup = "worker";
          ExecStart = exec;
          KillMode = "process";
          LoadCredential = credentials;
          # A user namespace is made anew at every start, and from one the processes of the last
          # start cannot be looked at in /proc: sessions could not be adopted.
          PrivateUsers = false;
          # The load average and the processor count are part of a heartbeat.
          ProcSubset = "all";
          # Only the worker's own branch of the cgroup tree is writable.
          ReadWritePaths = "-/sys/fs/cgroup/system.slice/hydraneckwebrtc.service";
          RuntimeDirectory = "hydraneckwebrtc";
          RuntimeDirectoryMode = "0700";
          StateDirectory = "hydraneckwebrtc";
          StateDirectoryMode = "0700";
          SyslogIdentifier = "hydraneckwebrtc";
        };
    };
}
