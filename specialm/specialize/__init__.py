"""From a pretrained model to a domain's: choice of an expert, fine-tuning, distillation."""
