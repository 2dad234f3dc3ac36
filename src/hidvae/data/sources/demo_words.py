"""Words of the demo catalogue: departments, aisles, shelves, and what stands on a shelf."""

from __future__ import annotations

from dataclasses import dataclass

ROOT = "Home & Outdoors"
"""First label of every category path: constant, as in real exports."""


@dataclass(frozen=True)
class Aisle:
    """A level-2 category: what its titles are made of."""

    name: str
    shelves: dict[str, tuple[str, ...]]
    """Level-3 category -> nouns; the next shelf completes this one, the last the first."""
    sizes: tuple[str, ...]
    price: float
    """Typical price."""


@dataclass(frozen=True)
class Department:
    """A level-1 category with its own brands and adjectives."""

    name: str
    brands: tuple[str, ...]
    adjectives: tuple[str, ...]
    aisles: tuple[Aisle, ...]


DEPARTMENTS: tuple[Department, ...] = (
    Department(
        "Kitchen",
        ("Halvorsen", "Mirabeau", "Kestrel & Co", "Tanabe", "Oakridge", "Brightwell"),
        ("ceramic", "stainless steel", "matte black", "cast iron", "bamboo", "classic"),
        (
            Aisle(
                "Coffee & Tea",
                {
                    "Grinders": ("conical burr grinder", "hand coffee mill"),
                    "Pour-over": ("pour-over dripper", "gooseneck kettle"),
                    "Mugs & Servers": ("coffee server", "stacking mug", "tasting cup"),
                },
                ("2 cups", "4 cups", "6 cups", "gift box"),
                32,
            ),
            Aisle(
                "Baking",
                {
                    "Scales & Measures": ("kitchen scale", "measuring jug"),
                    "Tins & Moulds": ("loaf tin", "muffin tray", "springform tin"),
                    "Decorating": ("piping set", "cake turntable"),
                },
                ("small", "medium", "large", "set of 3"),
                21,
            ),
            Aisle(
                "Knives",
                {
                    "Chef's Knives": ("chef's knife", "santoku"),
                    "Cutting Boards": ("cutting board", "carving board"),
                    "Sharpening": ("whetstone", "honing rod"),
                },
                ("15 cm", "20 cm", "24 cm", "30 cm"),
                48,
            ),
            Aisle(
                "Food Storage",
                {
                    "Jars": ("preserving jar", "spice jar"),
                    "Lunch Boxes": ("lunch box", "bento box"),
                    "Labels & Seals": ("label set", "silicone seal"),
                },
                ("250 ml", "500 ml", "1 litre", "pack of 6"),
                14,
            ),
        ),
    ),
    Department(
        "Garden",
        ("Fernleigh", "Thornbury", "Verdano", "Hedgerow", "Sowell", "Larkfield"),
        ("galvanised", "ash-handled", "lightweight", "weatherproof", "heritage", "compact"),
        (
            Aisle(
                "Raised Beds",
                {
                    "Planters": ("planter box", "raised bed kit"),
                    "Soil & Compost": ("potting soil", "worm compost"),
                    "Mulch": ("bark mulch", "straw mulch"),
                },
                ("20 litres", "40 litres", "60 litres", "double pack"),
                27,
            ),
            Aisle(
                "Seeds",
                {
                    "Vegetable Seeds": ("tomato seeds", "chard seeds", "carrot seeds"),
                    "Seed Trays": ("seed tray", "propagator"),
                    "Plant Markers": ("plant marker", "row marker"),
                },
                ("starter pack", "pack of 12", "pack of 24", "pack of 48"),
                9,
            ),
            Aisle(
                "Watering",
                {
                    "Hoses": ("garden hose", "soaker hose"),
                    "Nozzles": ("spray nozzle", "watering wand"),
                    "Rain Barrels": ("rain barrel", "barrel stand"),
                },
                ("15 m", "25 m", "40 m", "with fittings"),
                36,
            ),
            Aisle(
                "Pruning",
                {
                    "Secateurs": ("secateurs", "bypass pruner"),
                    "Saws": ("pruning saw", "pole saw"),
                    "Tool Care": ("blade oil", "sharpening file"),
                },
                ("small grip", "standard", "left-handed", "twin set"),
                24,
            ),
        ),
    ),
    Department(
        "Camping",
        ("Northcairn", "Ridgeline", "Tarnwood", "Altapeak", "Wayfarer", "Boreal"),
        ("ultralight", "three-season", "insulated", "folding", "ripstop", "expedition"),
        (
            Aisle(
                "Shelter",
                {
                    "Tents": ("dome tent", "tunnel tent"),
                    "Groundsheets": ("groundsheet", "tent footprint"),
                    "Pegs & Guylines": ("tent peg set", "guyline kit"),
                },
                ("1 person", "2 persons", "3 persons", "4 persons"),
                95,
            ),
            Aisle(
                "Sleeping",
                {
                    "Sleeping Bags": ("sleeping bag", "down quilt"),
                    "Mats": ("inflatable mat", "foam mat"),
                    "Pillows & Liners": ("camp pillow", "silk liner"),
                },
                ("short", "regular", "long", "wide"),
                78,
            ),
            Aisle(
                "Camp Cooking",
                {
                    "Stoves": ("gas stove", "wood stove"),
                    "Cook Sets": ("cook set", "camp pan"),
                    "Cutlery": ("titanium spork", "cutlery roll"),
                },
                ("solo", "for two", "for four", "group"),
                44,
            ),
            Aisle(
                "Lighting",
                {
                    "Head Torches": ("head torch", "running light"),
                    "Lanterns": ("lantern", "string light"),
                    "Power Banks": ("power bank", "solar charger"),
                },
                ("200 lumens", "400 lumens", "600 lumens", "rechargeable"),
                39,
            ),
        ),
    ),
    Department(
        "Cycling",
        ("Velanto", "Cobblestone", "Girofalco", "Spokeworks", "Chainring", "Passo"),
        ("aero", "reflective", "tubeless", "waterproof", "alloy", "touring"),
        (
            Aisle(
                "Tyres",
                {
                    "Road Tyres": ("road tyre", "gravel tyre"),
                    "Inner Tubes": ("inner tube", "latex tube"),
                    "Repair Kits": ("patch kit", "tyre lever set"),
                },
                ("700x25", "700x32", "650x47", "pair"),
                29,
            ),
            Aisle(
                "Bags",
                {
                    "Panniers": ("pannier", "rack bag"),
                    "Frame Bags": ("frame bag", "top tube bag"),
                    "Straps & Mounts": ("rack strap", "bag mount"),
                },
                ("3 litres", "8 litres", "14 litres", "25 litres"),
                52,
            ),
            Aisle(
                "Clothing",
                {
                    "Jerseys": ("cycling jersey", "wind vest"),
                    "Bib Shorts": ("bib shorts", "bib tights"),
                    "Gloves & Socks": ("cycling gloves", "merino socks"),
                },
                ("size S", "size M", "size L", "size XL"),
                58,
            ),
            Aisle(
                "Maintenance",
                {
                    "Tools": ("multitool", "torque wrench"),
                    "Lubricants": ("chain oil", "assembly grease"),
                    "Cleaning": ("chain cleaner", "brush set"),
                },
                ("pocket", "home", "workshop", "refill"),
                19,
            ),
        ),
    ),
    Department(
        "Crafts",
        ("Penhallow", "Lindqvist", "Papeterie Noir", "Woolcombe", "Inkwell", "Solano"),
        ("hand-dyed", "archival", "beginner", "professional", "recycled", "fine"),
        (
            Aisle(
                "Knitting",
                {
                    "Yarn": ("merino yarn", "alpaca yarn", "cotton yarn"),
                    "Needles": ("circular needle", "needle set"),
                    "Patterns & Notions": ("stitch marker set", "pattern book"),
                },
                ("50 g", "100 g", "200 g", "set of 5"),
                17,
            ),
            Aisle(
                "Painting",
                {
                    "Watercolours": ("watercolour pan set", "gouache set"),
                    "Brushes": ("round brush", "wash brush"),
                    "Paper & Pads": ("watercolour pad", "sketch block"),
                },
                ("A5", "A4", "A3", "12 pieces"),
                26,
            ),
            Aisle(
                "Calligraphy",
                {
                    "Pens": ("fountain pen", "dip pen"),
                    "Inks": ("pigment ink", "iron gall ink"),
                    "Blotting & Care": ("blotter", "nib cleaner"),
                },
                ("extra fine", "medium nib", "broad nib", "30 ml"),
                34,
            ),
            Aisle(
                "Leatherwork",
                {
                    "Leather": ("leather panel", "leather strap"),
                    "Punches": ("stitching punch", "edge beveller"),
                    "Thread & Wax": ("waxed thread", "beeswax block"),
                },
                ("1 mm", "2 mm", "3 mm", "assortment"),
                23,
            ),
        ),
    ),
    Department(
        "Pets",
        ("Barkley", "Whisker & Paw", "Houndsworth", "Finch & Fin", "Mossburn", "Tailwind"),
        ("washable", "chew-proof", "organic", "adjustable", "orthopaedic", "travel"),
        (
            Aisle(
                "Dog Walking",
                {
                    "Harnesses": ("dog harness", "padded collar"),
                    "Leads": ("hands-free lead", "rope lead"),
                    "Treat Pouches": ("treat pouch", "training clicker"),
                },
                ("size XS", "size S", "size M", "size L"),
                25,
            ),
            Aisle(
                "Cats",
                {
                    "Scratching Posts": ("scratching post", "climbing shelf"),
                    "Litter": ("clumping litter", "litter tray"),
                    "Cat Toys": ("feather wand", "catnip mouse"),
                },
                ("mini", "standard", "tall", "twin pack"),
                30,
            ),
            Aisle(
                "Aquariums",
                {
                    "Tanks": ("glass aquarium", "nano tank"),
                    "Filters": ("sponge filter", "canister filter"),
                    "Aquatic Plants": ("java fern", "moss ball"),
                },
                ("20 litres", "54 litres", "112 litres", "starter kit"),
                62,
            ),
            Aisle(
                "Wild Birds",
                {
                    "Feeders": ("seed feeder", "window feeder"),
                    "Bird Food": ("sunflower hearts", "suet balls"),
                    "Nest Boxes": ("nest box", "bird bath"),
                },
                ("1 kg", "2 kg", "5 kg", "value pack"),
                16,
            ),
        ),
    ),
)
