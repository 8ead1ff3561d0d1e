# Evaluates a NixOS configuration with the project's module against the stand-in.
rec {
  lib = import ../stand-in/lib.nix;
  pkgs = import ../stand-in/pkgs.nix { inherit lib; };
  # `coturn` is the version that the machine's packages have.
  machineWith =
    { coturn }:
    module:
    import ../stand-in/nixos
      {
        inherit lib;
        pkgs = pkgs // {
          coturn = pkgs.coturn // {
            version = coturn;
          };
          hydraneckwebrtc = pkgs.stub "hydraneckwebrtc";
        };
      }
      {
        modules = [
          ../../../nixos-module
          module
        ];
      };
  # A machine that has what is said, and nothing else.
  bare = machineWith { coturn = "4.9.0"; };
  # One whose worker has a stream program, as every worker must.
  machine =
    module:
    bare {
      imports = [ module ];
      services.hydraneckwebrtc.worker.streamProgram = lib.mkDefault "/opt/moonlight-web-stream/web-server";
    };
}
