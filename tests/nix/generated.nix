# Path in the repository -> what that file should hold.
import ../../scripts/hardened/units.nix // { "docs/nixos.md" = import ./options.nix; }
