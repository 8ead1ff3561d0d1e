# The sandbox of every unit of ours, as plain [Service] settings, shared by the NixOS module and
# by the unit files for other systems (../systemd). Nothing here depends on nixpkgs.
rec {
  # What all units share: an own user, no capabilities, nothing to write but their directories.
  base = {
    CapabilityBoundingSet = "";
    DevicePolicy = "closed";
    KeyringMode = "private";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateMounts = true;
    PrivateTmp = true;
    PrivateUsers = true;
    ProcSubset = "pid";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    # EPERM rather than a killed process: a library that probes for a call goes on without it.
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
    UMask = "0077";
  };

  # A network service that runs as a user of its own.
  service = base // {
    DynamicUser = true;
    # AF_NETLINK: the list of the machine's own addresses and links.
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
      "AF_UNIX"
    ];
  };

  # Ports below 1024 need one capability, which a private user namespace would take away.
  lowPorts = {
    AmbientCapabilities = "CAP_NET_BIND_SERVICE";
    CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
    PrivateUsers = false;
  };

  # coturn, on top of whatever the system's own unit sets.
  turn = base // {
    ProcSubset = "all"; # coturn counts processors in /proc/cpuinfo
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
      "AF_UNIX"
    ];
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
  };
}
