# Path in the repository -> what that file should hold.
import ../../systemd/units.nix // { "docs/nixos.md" = import ./options.nix; }
